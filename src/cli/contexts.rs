//! The file of contexts, after kubectl's: named connections and which of them is current.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    connection::Connection,
    failure::{Failure, Outcome},
};

/// Named connections. Holds paths and commands, never a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current_context: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    contexts: BTreeMap<String, Connection>,
}

impl Contexts {
    /// Reads the file; there are no contexts when there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or is not what this program writes.
    pub fn load(file: &Path) -> Outcome<Self> {
        match fs::read_to_string(file) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                Failure::failed(format!("{}: {}", file.display(), error.message()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::failed(format!("{}: {error}", file.display()))),
        }
    }

    /// Writes the file, and its folder when that is missing.
    ///
    /// # Errors
    /// The file cannot be written; the old one is left as it was.
    pub fn save(&self, file: &Path) -> Outcome {
        let written = self.to_toml().and_then(|text| {
            let folder = file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let draft = file.with_extension("toml.new");
            fs::write(&draft, text)?;
            fs::rename(&draft, file)
        });
        written.map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
    }

    /// The file's text.
    ///
    /// # Errors
    /// A path that is no text.
    pub fn to_toml(&self) -> io::Result<String> {
        toml::to_string(self).map_err(io::Error::other)
    }

    /// The name of the current context.
    pub fn current(&self) -> Option<&str> {
        self.current_context.as_deref()
    }

    /// The names and endpoints, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Connection)> {
        self.contexts.iter().map(|(name, connection)| (name.as_str(), connection))
    }

    /// The connection with this name.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn get(&self, name: &str) -> Outcome<&Connection> {
        self.contexts.get(name).ok_or_else(|| self.unknown(name))
    }

    /// Adds a connection, or replaces the values of the one with this name.
    pub fn set(&mut self, name: &str, connection: Connection) {
        let old = self.contexts.remove(name).unwrap_or_default();
        self.contexts.insert(name.to_owned(), connection.or(old));
    }

    /// Makes the context with this name the current one.
    ///
    /// # Errors
    /// There is none.
    pub fn select(&mut self, name: &str) -> Outcome {
        self.get(name)?;
        self.current_context = Some(name.to_owned());
        Ok(())
    }

    /// Removes the context with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn delete(&mut self, name: &str) -> Outcome {
        self.contexts.remove(name).ok_or_else(|| self.unknown(name))?;
        self.current_context.take_if(|current| current == name);
        Ok(())
    }

    fn unknown(&self, name: &str) -> Failure {
        let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Failure::usage(format!("there is no context `{name}`; there are: {known}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_survive_the_file_and_keep_what_is_not_set_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/config.toml");
        let mut contexts = Contexts::load(&file).unwrap();
        let endpoint =
            |url: &str| Connection { endpoint: Some(url.into()), ..Connection::default() };
        contexts
            .set("prod", Connection { token_file: Some("t".into()), ..endpoint("https://a:1") });
        contexts.set("prod", endpoint("https://b:1"));
        contexts.select("prod").unwrap();
        contexts.save(&file).unwrap();
        let read = Contexts::load(&file).unwrap();
        assert_eq!(read, contexts);
        let prod = read.get("prod").unwrap();
        assert_eq!(prod.endpoint.as_deref(), Some("https://b:1"));
        assert_eq!(prod.token_file, Some("t".into()));
    }

    #[test]
    fn deleting_the_current_context_leaves_none_current() {
        let mut contexts = Contexts::default();
        contexts.set("prod", Connection::default());
        contexts.select("prod").unwrap();
        contexts.delete("prod").unwrap();
        assert_eq!(contexts, Contexts::default());
        assert!(contexts.delete("prod").is_err());
        assert!(contexts.select("prod").is_err());
    }
}
