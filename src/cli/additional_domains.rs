//! The grammar of `--additional-domains`, after the original's list modifiers.
//!
//! `a,b` replaces the list, `none` empties it, `add=a,b` and `remove=a` edit it. The key is taken
//! in any case; any other is an error. Edits and a replacement exclude each other.

use crate::domain::DomainName;

/// One value of the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainsArgument {
    /// Add these.
    Add(Vec<String>),
    /// Remove these.
    Remove(Vec<String>),
    /// The list is these.
    Replace(Vec<String>),
}

/// What all values of the flag together ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainsEdit {
    /// The list is these.
    Replace(Vec<String>),
    /// Remove some, then add some.
    Edit {
        /// Added after the removals.
        add: Vec<String>,
        /// Removed first.
        remove: Vec<String>,
    },
}

/// Reads one value of the flag.
///
/// # Errors
/// An unknown key, or a text that is no domain.
pub fn parse(text: &str) -> Result<DomainsArgument, String> {
    let Some((key, list)) = text.split_once('=') else {
        if text.is_empty() || text.eq_ignore_ascii_case("none") {
            return Ok(DomainsArgument::Replace(Vec::new()));
        }
        return domains(text).map(DomainsArgument::Replace);
    };
    match key.trim().to_ascii_lowercase().as_str() {
        "add" => domains(list).map(DomainsArgument::Add),
        "remove" => domains(list).map(DomainsArgument::Remove),
        "replace" if list.eq_ignore_ascii_case("none") => Ok(DomainsArgument::Replace(Vec::new())),
        "replace" => domains(list).map(DomainsArgument::Replace),
        _ => Err(format!("`{key}` is no edit; write add=a,b or remove=a or a,b or none")),
    }
}

fn domains(list: &str) -> Result<Vec<String>, String> {
    list.split(',')
        .map(|domain| {
            DomainName::parse(domain.trim())
                .map(|domain| domain.to_string())
                .map_err(|error| format!("`{}`: {error}", domain.trim()))
        })
        .collect()
}

/// Puts all values of the flag together; `None` when there are none.
///
/// # Errors
/// Edits and a replacement are mixed.
pub fn combine(arguments: &[DomainsArgument]) -> Result<Option<DomainsEdit>, String> {
    let (mut add, mut remove, mut replace) = (Vec::new(), Vec::new(), None::<Vec<String>>);
    for argument in arguments {
        match argument {
            DomainsArgument::Add(domains) => add.extend_from_slice(domains),
            DomainsArgument::Remove(domains) => remove.extend_from_slice(domains),
            DomainsArgument::Replace(domains) => {
                replace.get_or_insert_default().extend_from_slice(domains);
            }
        }
    }
    match replace {
        Some(_) if !(add.is_empty() && remove.is_empty()) => {
            Err("--additional-domains takes either a whole list or add= and remove=, not both"
                .into())
        }
        Some(domains) => Ok(Some(DomainsEdit::Replace(domains))),
        None if arguments.is_empty() => Ok(None),
        None => Ok(Some(DomainsEdit::Edit { add, remove })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(values: &[&str]) -> Result<Option<DomainsEdit>, String> {
        let arguments: Result<Vec<_>, _> = values.iter().map(|value| parse(value)).collect();
        combine(&arguments?)
    }

    fn replaced(domains: &[&str]) -> Result<Option<DomainsEdit>, String> {
        Ok(Some(DomainsEdit::Replace(domains.iter().map(ToString::to_string).collect())))
    }

    #[test]
    fn a_list_replaces_and_none_clears() {
        assert_eq!(
            edit(&["na.contoso.com,EU.contoso.com"]),
            replaced(&["na.contoso.com", "eu.contoso.com"])
        );
        assert_eq!(edit(&["a.example", "b.example"]), replaced(&["a.example", "b.example"]));
        assert_eq!(edit(&["Replace=a.example"]), replaced(&["a.example"]));
        assert_eq!(edit(&["none"]), replaced(&[]));
        assert_eq!(edit(&[]), Ok(None));
    }

    #[test]
    fn edits_add_up() {
        let wanted = DomainsEdit::Edit {
            add: vec!["a.example".into(), "b.example".into()],
            remove: vec!["c.example".into()],
        };
        assert_eq!(edit(&["ADD=a.example,b.example", "remove=c.example"]), Ok(Some(wanted)));
    }

    #[test]
    fn an_unknown_key_a_bad_domain_and_a_mixture_are_refused() {
        for (values, part) in [
            (&["append=a.example"][..], "`append` is no edit"),
            (&["add="], "missing"),
            (&["add=a.example,,b.example"], "missing"),
            (&["localhost"], "localhost"),
            (&["a.example", "add=b.example"], "not both"),
            (&["none", "remove=b.example"], "not both"),
        ] {
            let refusal = edit(values).unwrap_err();
            assert!(refusal.contains(part), "{values:?}: {refusal}");
        }
    }
}
