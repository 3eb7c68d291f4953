//! Where the bearer token comes from.

use std::{fmt, fs, path::PathBuf, process::Stdio};

use secrecy::{ExposeSecret, SecretString};
use tonic::metadata::{Ascii, MetadataValue};

use super::error::ConnectError;

/// Where the bearer token comes from. It is asked anew for every stream, so a token that somebody
/// renews is used from the next one on.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum TokenSource {
    /// No token is shown.
    #[default]
    None,
    /// A file that holds the token and nothing else but white space around it.
    File(PathBuf),
    /// A command of the shell that prints the token.
    Command(String),
}

impl fmt::Debug for TokenSource {
    /// Without the command, which may have a secret among its arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Command(_) => f.write_str("Command(..)"),
        }
    }
}

impl TokenSource {
    /// The token. Blocks while the file is read or the command runs.
    ///
    /// # Errors
    /// The file cannot be read, the command fails, or either gives no token.
    pub fn read(&self) -> Result<Option<SecretString>, ConnectError> {
        let (text, origin) = match self {
            Self::None => return Ok(None),
            Self::File(file) => {
                let text = fs::read_to_string(file)
                    .map_err(|error| ConnectError::file("token", file, error))?;
                (text, format!("the token file {}", file.display()))
            }
            Self::Command(command) => (output_of(command)?, "the token command".to_owned()),
        };
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConnectError::NoToken(format!(
                "{origin} gives no token; it must hold one JWT and nothing else"
            )));
        }
        Ok(Some(token.into()))
    }

    /// The value of the `authorization` header, if there is a token. Blocks as [`Self::read`] does.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, ConnectError> {
        let value = self.read()?.map(|token| {
            MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
                .map(|mut value| {
                    value.set_sensitive(true);
                    value
                })
                .map_err(|_| ConnectError::NoToken("the token is no text of one line".into()))
        });
        value.transpose()
    }
}

fn output_of(command: &str) -> Result<String, ConnectError> {
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| {
            ConnectError::NoToken(format!("the token command did not start: {error}"))
        })?;
    if !output.status.success() {
        let text = format!("the token command failed: {}", output.status);
        return Err(ConnectError::NoToken(text));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| ConnectError::NoToken("the token command prints no text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_never_told() {
        let command = |command: &str| TokenSource::Command(command.to_owned()).read();
        assert_eq!(command("echo a.b.c").unwrap().unwrap().expose_secret(), "a.b.c");
        assert!(matches!(command("echo; exit 3"), Err(ConnectError::NoToken(_))));
        let error = command("echo two words").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("two"), "{error:?}");
        assert!(TokenSource::None.read().unwrap().is_none());
        let source = TokenSource::Command("echo s3cret".to_owned());
        assert!(!format!("{source:?}").contains("s3cret"));
        let header = source.authorization().unwrap().unwrap();
        assert!(!format!("{header:?}").contains("s3cret"));
    }

    #[test]
    fn a_token_file_is_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let source = TokenSource::File(file.clone());
        assert!(matches!(source.read(), Err(ConnectError::File { .. })));
        for token in ["first", "second"] {
            fs::write(&file, format!("{token}\n")).unwrap();
            assert_eq!(source.read().unwrap().unwrap().expose_secret(), token);
        }
    }
}
