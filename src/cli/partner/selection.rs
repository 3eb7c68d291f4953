//! Which partners a command is about: names, patterns, a filter, or what comes in a pipe.

use std::collections::HashSet;

use clap::Args;
use prost_types::FieldMask;

use crate::{
    cli::{
        client::Client,
        failure::{Failure, Outcome},
        input::Input,
        values::{self, COLLECTION},
    },
    proto::v1::{
        AllowedPartner, BatchGetAllowedPartnersRequest, GetAllowedPartnerRequest,
        ListAllowedPartnersRequest,
    },
};

/// The most items of a batch and of a page (AIP-231 to AIP-235 as the service bounds them).
pub const BATCH_LIMIT: usize = 1_000;

/// Which partners are meant.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// Domains, or patterns such as '*.org'; without any, partners are read from standard input
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// The partners that match, for example 'partner_type = FEDERATED'
    #[arg(long, value_name = "FILTER", conflicts_with = "names")]
    filter: Option<String>,
}

impl Selection {
    /// What is meant, with standard input read when neither names nor a filter are given.
    ///
    /// # Errors
    /// A name is no domain, or standard input cannot be read.
    pub fn source(&self) -> Outcome<Source> {
        if let Some(filter) = &self.filter {
            return Ok(Source::Matching { names: Vec::new(), filter: filter.clone() });
        }
        if self.names.is_empty() || self.names == ["-"] {
            return Input::from_stdin().map(Source::Given);
        }
        let (patterns, names): (Vec<_>, Vec<_>) =
            self.names.iter().partition(|name| is_pattern(name));
        let names = exact(&names)?;
        if patterns.is_empty() {
            return Ok(Source::Given(Input::Names(names)));
        }
        Ok(Source::Matching { names, filter: pattern_filter(&patterns)? })
    }
}

/// Where the partners come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// They are given.
    Given(Input),
    /// Some are given; those that match are asked of the service.
    Matching {
        /// The ones given.
        names: Vec<String>,
        /// Which are meant besides.
        filter: String,
    },
}

impl Source {
    /// The names, in the order given and each once.
    ///
    /// # Errors
    /// The service refuses the filter.
    pub async fn names(self, client: &Client) -> Outcome<Vec<String>> {
        let names = match self {
            Self::Given(input) => input.into_names(),
            Self::Matching { mut names, filter } => {
                let query = ListAllowedPartnersRequest {
                    filter,
                    read_mask: Some(FieldMask { paths: vec!["name".into()] }),
                    ..ListAllowedPartnersRequest::default()
                };
                each_page(client, query, |page| {
                    names.extend(page.into_iter().map(|partner| partner.name));
                    Ok(())
                })
                .await?;
                names
            }
        };
        Ok(each_once(names))
    }
}

/// The filter for names, patterns among them, and what a filter lets through besides.
///
/// # Errors
/// A name is no domain.
pub fn filter_of(names: &[String], filter: Option<&str>) -> Outcome<String> {
    let (patterns, names): (Vec<_>, Vec<_>) = names.iter().partition(|name| is_pattern(name));
    let mut terms: Vec<_> =
        exact(&names)?.into_iter().map(|name| format!("name = \"{name}\"")).collect();
    if !patterns.is_empty() {
        terms.push(pattern_filter(&patterns)?);
    }
    let named = terms.join(" OR ");
    Ok(match (filter, named.is_empty()) {
        (Some(filter), false) => format!("({filter}) AND ({named})"),
        (Some(filter), true) => filter.to_owned(),
        (None, _) => named,
    })
}

/// The names in their order, each once.
pub fn each_once(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

/// Whether the text stands for several names.
pub fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

/// The resource names of exact names.
///
/// # Errors
/// One is no domain.
pub fn exact<S: AsRef<str>>(names: &[S]) -> Outcome<Vec<String>> {
    let names = names.iter().map(|name| values::resource_name(name.as_ref()));
    names.collect::<Result<_, _>>().map_err(Failure::rejected)
}

/// The filter that any of the patterns matches.
///
/// # Errors
/// A pattern holds what no domain can hold.
pub fn pattern_filter<S: AsRef<str>>(patterns: &[S]) -> Outcome<String> {
    let terms = patterns.iter().map(|pattern| {
        let pattern = pattern.as_ref().trim_start_matches(COLLECTION).to_lowercase();
        let plain = |c: char| c.is_alphanumeric() || "*.-_".contains(c);
        if pattern.chars().all(plain) {
            Ok(format!("name = \"{COLLECTION}{pattern}\""))
        } else {
            Err(Failure::usage(format!("`{pattern}` is no pattern; write one such as '*.org'")))
        }
    });
    let terms: Vec<_> = terms.collect::<Outcome<_>>()?;
    Ok(terms.join(" OR "))
}

/// Lists the partners and hands over each page as it comes.
///
/// # Errors
/// The service refuses the query, or `page` fails.
pub async fn each_page(
    client: &Client,
    mut query: ListAllowedPartnersRequest,
    mut page: impl FnMut(Vec<AllowedPartner>) -> Outcome,
) -> Outcome {
    query.page_size = i32::try_from(BATCH_LIMIT).expect("a small number");
    loop {
        let answer = client.list_allowed_partners(query.clone()).await?;
        page(answer.allowed_partners)?;
        if answer.next_page_token.is_empty() {
            return Ok(());
        }
        query.page_token = answer.next_page_token;
    }
}

/// The partners with these names, in their order.
///
/// # Errors
/// One of them is not there.
pub async fn get_all(client: &Client, names: &[String]) -> Outcome<Vec<AllowedPartner>> {
    let mut partners = Vec::with_capacity(names.len());
    for names in names.chunks(BATCH_LIMIT) {
        let request =
            BatchGetAllowedPartnersRequest { names: names.to_vec(), ..Default::default() };
        partners.extend(client.batch_get_allowed_partners(request).await?.allowed_partners);
    }
    Ok(partners)
}

/// The partner with this name.
///
/// # Errors
/// It is not there.
pub async fn get_one(client: &Client, name: &str, show_deleted: bool) -> Outcome<AllowedPartner> {
    get_one_at(client, name, show_deleted, 0).await
}

/// The partner with this name as it was at a revision; as it is at 0.
///
/// # Errors
/// It was not there, or the history is no longer kept.
pub async fn get_one_at(
    client: &Client,
    name: &str,
    show_deleted: bool,
    revision: i64,
) -> Outcome<AllowedPartner> {
    let name = name.to_owned();
    let request = GetAllowedPartnerRequest { name, show_deleted, revision, ..Default::default() };
    client.get_allowed_partner(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_a_filter_that_cannot_be_broken_out_of() {
        assert_eq!(
            pattern_filter(&["*.ORG", "allowedPartners/a*"]).unwrap(),
            r#"name = "allowedPartners/*.org" OR name = "allowedPartners/a*""#
        );
        assert!(pattern_filter(&[r#"*" OR name = "x"#]).is_err());
    }

    #[test]
    fn names_and_patterns_may_be_mixed() {
        let selection = |names: &[&str]| Selection {
            names: names.iter().map(ToString::to_string).collect(),
            filter: None,
        };
        assert_eq!(
            selection(&["A.example"]).source().unwrap(),
            Source::Given(Input::Names(vec!["allowedPartners/a.example".into()]))
        );
        assert_eq!(
            selection(&["a.example", "*.org"]).source().unwrap(),
            Source::Matching {
                names: vec!["allowedPartners/a.example".into()],
                filter: r#"name = "allowedPartners/*.org""#.into()
            }
        );
        assert!(selection(&["localhost"]).source().is_err());
    }
}
