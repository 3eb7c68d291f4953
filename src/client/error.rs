//! Why a service cannot be reached.

use std::path::{Path, PathBuf};

use http::Uri;
use tonic::{Code, Status};

/// Why a service cannot be reached. Never holds a token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is no address of a service.
    #[error("the endpoint `{endpoint}` cannot be used: {why}")]
    Endpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What to write instead.
        why: &'static str,
    },
    /// No certificates to trust are named, and the system keeps none.
    #[error("this system keeps no trusted certificates; name a file that holds the service's CA")]
    NothingTrusted,
    /// A file is missing or holds something else.
    #[error("the {what} file {} cannot be used: {why}", file.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no token to show.
    #[error("{0}")]
    NoToken(String),
    /// Nobody answers, or somebody else does.
    #[error("{endpoint} cannot be reached{}", in_brackets(causes))]
    Unreachable {
        /// The service.
        endpoint: Uri,
        /// The chain of causes, the outermost first.
        causes: Vec<String>,
    },
}

impl ConnectError {
    pub(super) fn file(what: &'static str, file: &Path, why: impl ToString) -> Self {
        Self::File { what, file: file.to_owned(), why: why.to_string() }
    }

    /// With the whole chain of causes: only the innermost says what to mend.
    pub(super) fn unreachable(endpoint: &Uri, error: &dyn std::error::Error) -> Self {
        let mut causes: Vec<String> = Vec::new();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !causes.iter().any(|known| known.contains(&text)) {
                causes.push(text);
            }
            cause = inner.source();
        }
        Self::Unreachable { endpoint: endpoint.clone(), causes }
    }
}

/// Whether the connection broke before the answer came, so that nobody knows what was done.
pub fn is_lost(status: &Status) -> bool {
    status.code() == Code::Unknown && std::error::Error::source(status).is_some()
}

fn in_brackets(causes: &[String]) -> String {
    causes.last().map_or_else(String::new, |innermost| format!(" ({innermost})"))
}
