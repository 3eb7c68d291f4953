//! Where a value comes from: flags before the environment before the file.
//!
//! Every key has one name, `limits.max_connections`, and with it one environment variable,
//! `PARTNERD_LIMITS_MAX_CONNECTIONS`. A member of a list of sections is written
//! `auth.issuers[0].issuer` and `PARTNERD_AUTH_ISSUERS_0_ISSUER`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::ConfigError;

/// What every environment variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "PARTNERD_";

/// Variables of ours that are not configuration keys: `PARTNERD_CONFIG` names the file itself.
const NOT_KEYS: &[&str] = &["PARTNERD_CONFIG"];

/// The layers of a configuration, not yet understood.
#[derive(Debug, Default)]
pub struct Layers {
    flags: Vec<Flag>,
    environment: BTreeMap<String, String>,
    base: Table,
    base_name: String,
    base_folder: PathBuf,
}

/// A key set on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag, as it was written: `--listen`.
    pub flag: &'static str,
    /// The key it sets.
    pub key: String,
    /// To what.
    pub value: String,
}

/// A value with the place it came from.
#[derive(Debug)]
pub(super) struct Given {
    pub value: Value,
    pub place: Place,
}

/// Where a value was given; its `Display` is how an error names it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Flag { flag: &'static str, key: String },
    Environment { variable: String },
    Base { key: String, name: String },
}

impl Layers {
    /// Layers upon nothing: no file.
    pub fn without_file() -> Self {
        Self::default()
    }

    /// Layers upon a configuration file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// If the file cannot be read or is not TOML.
    pub fn with_file(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            ConfigError::one(format!("{name}: {error}; give a readable file with --config"))
        })?;
        let base = text.parse().map_err(|error| not_toml(&name, &text, &error))?;
        let base_folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { base, base_name: name, base_folder, ..Self::default() })
    }

    /// Layers upon ready values; `name` tells people where they come from.
    pub fn with_values(base: Table, name: &str) -> Self {
        Self { base, base_name: name.to_owned(), ..Self::default() }
    }

    /// As if the file had this name and lay in this folder.
    #[cfg(test)]
    pub(super) fn rename_base(&mut self, name: &str, folder: &Path) {
        name.clone_into(&mut self.base_name);
        folder.clone_into(&mut self.base_folder);
    }

    /// Adds the environment: what begins with [`ENVIRONMENT_PREFIX`] and is not empty.
    ///
    /// # Errors
    /// If such a variable is not UTF-8.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            if !is_ours(&name) || value.is_empty() {
                continue;
            }
            let value = value.into_string().map_err(|_| {
                ConfigError::one(format!("{name}: not valid UTF-8; set it to plain text"))
            })?;
            self.environment.insert(name, value);
        }
        Ok(self)
    }

    /// Adds the environment of this process.
    ///
    /// # Errors
    /// As for [`Layers::environment`].
    pub fn process_environment(self) -> Result<Self, ConfigError> {
        self.environment(std::env::vars_os())
    }

    /// Adds the command line. Of two flags for one key the last one counts.
    #[must_use]
    pub fn flags(mut self, flags: Vec<Flag>) -> Self {
        self.flags = flags;
        self
    }

    /// The text of a key that must be known before the rest is read.
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.value.as_str().map(str::to_owned)
    }

    /// The value of a key from the first layer that has it.
    pub(super) fn get(&self, key: &str) -> Option<Given> {
        if let Some(Flag { flag, key, value }) = self.flags.iter().rfind(|flag| flag.key == key) {
            let place = Place::Flag { flag, key: key.clone() };
            return Some(Given { value: Value::String(value.clone()), place });
        }
        let variable = variable(key);
        if let Some(value) = self.environment.get(&variable) {
            let place = Place::Environment { variable };
            return Some(Given { value: Value::String(value.clone()), place });
        }
        let place = Place::Base { key: key.to_owned(), name: self.base_name.clone() };
        find(&self.base, key).map(|value| Given { value: value.clone(), place })
    }

    /// How many members a list of sections has, in the file or in the environment.
    pub(super) fn count(&self, list: &str) -> usize {
        let in_base = find(&self.base, list).and_then(Value::as_array).map_or(0, Vec::len);
        let given = |index: usize| {
            let prefix = format!("{}_", variable(&format!("{list}[{index}]")));
            self.environment.keys().any(|name| name.starts_with(&prefix))
        };
        (in_base..).find(|index| !given(*index)).unwrap_or(in_base)
    }

    /// The path that a value of this place means: relative to the file that names it.
    pub(super) fn resolve(&self, path: &str, place: &Place) -> PathBuf {
        match place {
            Place::Base { .. } => self.base_folder.join(path),
            Place::Flag { .. } | Place::Environment { .. } => PathBuf::from(path),
        }
    }

    /// Every key that was given, with its place.
    pub(super) fn given(&self) -> Vec<(String, Place)> {
        let mut keys = Vec::new();
        leaves(&self.base, "", &mut keys);
        let name = &self.base_name;
        let in_base = keys.into_iter().map(|key| {
            let place = Place::Base { key: key.clone(), name: name.clone() };
            (key, place)
        });
        let in_environment = self
            .environment
            .keys()
            .map(|variable| (variable.clone(), Place::Environment { variable: variable.clone() }));
        let in_flags = self
            .flags
            .iter()
            .map(|Flag { flag, key, .. }| (key.clone(), Place::Flag { flag, key: key.clone() }));
        in_flags.chain(in_environment).chain(in_base).collect()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { flag: "--set", key } => write!(f, "--set {key}"),
            Self::Flag { flag, .. } => f.write_str(flag),
            Self::Environment { variable } => f.write_str(variable),
            Self::Base { key, name } => write!(f, "{name}: {key}"),
        }
    }
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    let separated = key.replace(['.', '['], "_").replace(']', "");
    format!("{ENVIRONMENT_PREFIX}{}", separated.to_uppercase())
}

/// Kubernetes gives every container the address of each service of its namespace: for one
/// called `partnerd` that is `PARTNERD_SERVICE_HOST`, `PARTNERD_PORT` and their kin.
fn is_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { return false };
    let injected = rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
    !injected && !NOT_KEYS.contains(&name)
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (head, rest) = match key.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (key, None),
    };
    let (name, index) = match head.split_once('[') {
        Some((name, index)) => (name, Some(index.strip_suffix(']')?.parse::<usize>().ok()?)),
        None => (head, None),
    };
    let value = table.get(name)?;
    let value = match index {
        Some(index) => value.as_array()?.get(index)?,
        None => value,
    };
    match rest {
        Some(rest) => find(value.as_table()?, rest),
        None => Some(value),
    }
}

fn leaves(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(section) => leaves(section, &format!("{key}."), keys),
            Value::Array(members) if members.iter().any(Value::is_table) => {
                let sections = members.iter().enumerate();
                for (index, section) in sections.filter_map(|(i, v)| Some((i, v.as_table()?))) {
                    leaves(section, &format!("{key}[{index}]."), keys);
                }
            }
            _ => keys.push(key),
        }
    }
}

fn not_toml(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let what = error.message().replace('\n', " ");
    ConfigError::one(format!("{name}:{line}:{column}: not valid TOML: {what}"))
}
