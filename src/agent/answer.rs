//! What a server's module answers: what is in force, and why not what was asked for.

use serde::Deserialize;

/// The version of the interface.
const VERSION: u32 = 1;

/// What a server says of itself, by `docs/enforcement.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Answer {
    #[serde(default)]
    pub(super) partnerd: u32,
    #[serde(default)]
    pub(super) result: String,
    /// Why it refused what it was given last; `None` if it did not.
    #[serde(default)]
    pub error: Option<String>,
    /// The revision in force; -1 if there is none.
    pub generation: i64,
    /// The digest of what is in force; empty if there is none.
    #[serde(default)]
    pub digest: String,
    /// How many partners are in force.
    #[serde(default)]
    pub partners: i64,
    /// The server's name and version.
    #[serde(default)]
    pub server: String,
    /// The module's version.
    #[serde(default)]
    pub module: String,
    /// When the module was loaded, in seconds since 1970.
    #[serde(default)]
    pub started_at: i64,
    /// When what is in force was put there, in seconds since 1970; 0 if there is none.
    #[serde(default)]
    pub applied_at: i64,
    /// The streams that this application closed.
    #[serde(default)]
    pub closed: i64,
    /// The streams closed since `started_at`.
    #[serde(default)]
    pub closed_total: i64,
    /// Partners with streams.
    #[serde(default)]
    pub sessions: Vec<Sessions>,
    /// What is asked for and not enforced.
    #[serde(default)]
    pub unenforced: Vec<Unenforced>,
    /// What is wrong with the installation.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Whether it refuses everybody because the lease ran out.
    #[serde(default)]
    pub stale: bool,
}

/// The authenticated streams of one partner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Sessions {
    /// Its primary domain.
    pub domain: String,
    /// Those that it opened.
    #[serde(default)]
    pub inbound: i64,
    /// Those that the server opened.
    #[serde(default)]
    pub outbound: i64,
}

/// A property that is asked for and not enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Unenforced {
    /// Its name in the API.
    pub property: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// How many partners it concerns.
    #[serde(default)]
    pub partners: i64,
    /// Some of them.
    #[serde(default)]
    pub examples: Vec<String>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// Why it is none, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut answer: Self = serde_json::from_str(text)
            .map_err(|error| format!("the server's module answers what is no answer: {error}"))?;
        if answer.partnerd != VERSION {
            return Err(format!(
                "the server's module speaks version {} of the interface, this agent version \
                 {VERSION}; install both from the same release",
                answer.partnerd
            ));
        }
        match answer.result.as_str() {
            "ACK" => answer.error = None,
            // A refusal without a reason is one nevertheless.
            _ => answer.error = Some(answer.error.unwrap_or_else(|| "no reason given".into())),
        }
        Ok(answer)
    }

    /// The answer of a target that has no module: what was handed over is in force.
    pub fn of_own(server: String, generation: i64, digest: String, partners: i64) -> Self {
        let result = "ACK".to_owned();
        Self { partnerd: VERSION, result, server, generation, digest, partners, ..Self::default() }
    }
}
