//! Why a command did not do what it was asked, and the exit code that says so.
//!
//! Every command returns [`Outcome`]. A server's status becomes a [`Failure`] with its details in
//! words; nothing here ever holds a token.

use std::{collections::BTreeMap, fmt, io, process::ExitCode};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::console::plain;
use crate::client::{Cause, ConnectError, is_lost};

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// The exit codes, which scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Nothing failed; whoever read the output has had enough of it.
    Done = 0,
    /// Something failed that no other code stands for.
    Failed = 1,
    /// The command line is wrong, or an answer at a terminal is needed and there is none.
    Usage = 2,
    /// There is no such partner or role, or none that the caller may see.
    NotFound = 3,
    /// Not authenticated, or not allowed.
    Denied = 4,
    /// It exists already, has changed since, or is not in a state for this.
    Conflict = 5,
    /// A value breaks a rule.
    Rejected = 6,
    /// The service cannot be reached, took too long or asks to slow down.
    Unavailable = 7,
    /// The question was answered, and the answer is no.
    No = 8,
    /// It is done, and not in force on every XMPP server.
    NotEverywhere = 9,
}

/// The exit codes as the help shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for a reason that no other code stands for
  2  the command line is wrong, or a confirmation is missing
  3  not found, or not visible to you
  4  not authenticated, or not allowed
  5  conflict: it exists already, or has changed since
  6  a value breaks a rule
  7  the service cannot be reached, or took too long
  8  the question was answered: no (can-i, resolve --check, verify)
  9  done, but not in force on every server (--wait, replica wait)";

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    details: Vec<String>,
    faults: Vec<(usize, String)>,
    silent: bool,
}

impl Failure {
    /// A failure with this exit code and these words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            details: Vec::new(),
            faults: Vec::new(),
            silent: false,
        }
    }

    /// A failure that no other exit code stands for.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A value that breaks a rule.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(Exit::Rejected, message)
    }

    /// The end of a command that has said all there is to say.
    pub fn silent(exit: Exit) -> Self {
        Self { silent: true, ..Self::new(exit, String::new()) }
    }

    /// The same with one more line below the message.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// What kind of failure it is.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The failure in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The lines below the message: violations, reasons, remedies.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// The items of a batch that are at fault, with what is wrong with them.
    pub fn faults(&self) -> &[(usize, String)] {
        &self.faults
    }

    /// Tells the failure on stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if !self.silent {
            eprint!("{self}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", plain(&self.message))?;
        self.details.iter().try_for_each(|line| writeln!(f, "  {}", plain(line)))
    }
}

impl From<io::Error> for Failure {
    /// A pipe that nobody reads any more ends the program quietly, as after `| head`.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Done),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Endpoint { .. } => Self::usage(error.to_string()),
            ConnectError::NothingTrusted => {
                Self::usage("this system keeps no trusted certificates; give --ca-file")
            }
            ConnectError::File { .. } => Self::failed(error.to_string()),
            ConnectError::NoToken(why) => Self::new(Exit::Denied, why),
            ConnectError::Unreachable { endpoint, causes } => {
                let failure = Self::new(Exit::Unavailable, format!("{endpoint} cannot be reached"));
                let about_trust = causes.iter().any(|cause| cause.contains("certificate"));
                causes.iter().fold(failure, Self::detail).detail(if about_trust {
                    "to do: check that --ca-file is the service's and that the endpoint's host is \
                     its name"
                } else {
                    "to do: check that the service runs and that the endpoint is right"
                })
            }
        }
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Unreachable(error) => error.into(),
            Cause::HistoryGone(status) => Self::from(status)
                .detail("to do: start anew without --from; what happened before cannot be told"),
            Cause::Lost(status)
            | Cause::Unauthenticated(status)
            | Cause::Denied(status)
            | Cause::Refused(status) => status.into(),
            Cause::Ended | Cause::Stalled(_) => Self::new(Exit::Unavailable, cause.to_string()),
            Cause::Faulty(_) => Self::failed(cause.to_string()),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let message = match status.message() {
            "" => status.code().description().to_owned(),
            text => text.to_owned(),
        };
        let exit = if is_lost(&status) { Exit::Unavailable } else { exit_of(status.code()) };
        let mut failure = Self::new(exit, message);
        let details = status.get_error_details();
        failure.faults = faults_of(&details, &failure.message);
        failure.details = details_of(&details);
        // The service puts the first violation into its message; it is not said twice.
        match failure.details.first() {
            Some(first) if failure.message == *first => _ = failure.details.remove(0),
            Some(first) if failure.message.starts_with(first.as_str()) => {
                failure.message = "the request breaks several rules".to_owned();
            }
            _ => {}
        }
        failure.details.extend(remedy(status.code()).map(str::to_owned));
        failure
    }
}

const fn exit_of(code: Code) -> Exit {
    match code {
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => Exit::Conflict,
        Code::InvalidArgument | Code::OutOfRange => Exit::Rejected,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => {
            Exit::Unavailable
        }
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            Exit::Failed
        }
    }
}

fn details_of(details: &ErrorDetails) -> Vec<String> {
    let told = |subject: &str, description: &str| format!("{subject}: {description}");
    let mut lines = Vec::new();
    if let Some(request) = details.bad_request() {
        let violations = request.field_violations.iter();
        lines.extend(violations.map(|broken| told(&broken.field, &broken.description)));
    }
    if let Some(failure) = details.precondition_failure() {
        let violations = failure.violations.iter();
        lines.extend(violations.map(|broken| told(&broken.subject, &broken.description)));
    }
    if let Some(failure) = details.quota_failure() {
        let violations = failure.violations.iter();
        lines.extend(violations.map(|broken| told(&broken.subject, &broken.description)));
    }
    if let Some(info) = details.error_info() {
        lines.push(format!("reason: {}", info.reason));
        // The index means nothing to people; the command that sent the batch tells the name.
        let metadata = info.metadata.iter().filter(|(key, _)| *key != "index");
        let mut metadata: Vec<_> = metadata.collect();
        metadata.sort();
        lines.extend(metadata.into_iter().map(|(key, value)| format!("{key}: {value}")));
    }
    if let Some(pause) = details.retry_info().and_then(|info| info.retry_delay) {
        lines.push(format!("try again in {:.1} s", pause.as_secs_f32()));
    }
    lines
}

/// The items of a batch that the details name: by the paths of the violations
/// (`requests[3].allowed_partner.owner`), else by the index in the ErrorInfo.
fn faults_of(details: &ErrorDetails, message: &str) -> Vec<(usize, String)> {
    let mut faults: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let violations = details.bad_request().map(|request| request.field_violations.as_slice());
    for broken in violations.unwrap_or_default() {
        let item = broken.field.strip_prefix("requests[").and_then(|path| path.split_once(']'));
        if let Some((Ok(index), path)) = item.map(|(index, path)| (index.parse(), path)) {
            let field = path.trim_start_matches('.').trim_start_matches("allowed_partner.");
            faults.entry(index).or_default().push(format!("{field}: {}", broken.description));
        }
    }
    let index = details.error_info().and_then(|info| info.metadata.get("index")?.parse().ok());
    if let (true, Some(index)) = (faults.is_empty(), index) {
        faults.entry(index).or_default().push(message.to_owned());
    }
    faults.into_iter().map(|(index, reasons)| (index, reasons.join("; "))).collect()
}

const fn remedy(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some(
            "to do: give a valid token with --token-file or --token-command, or in the context",
        ),
        Code::PermissionDenied => {
            Some("to do: `partnerctl whoami` shows your roles; ask for one that allows this")
        }
        Code::Aborted => Some("to do: get it again, look at what changed, and repeat the change"),
        Code::Cancelled | Code::DeadlineExceeded => {
            Some("to do: repeat the command; --timeout gives it longer")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_status_is_told_with_every_violation_and_its_reason() {
        let mut details = ErrorDetails::new();
        details
            .add_bad_request_violation("allowed_partner.owner", "too long")
            .add_bad_request_violation("allowed_partner.labels", "too many")
            .set_error_info("INVALID_PARTNER", "federation.xmpp", [("limit".into(), "64".into())]);
        let status = Status::with_error_details(Code::InvalidArgument, "not valid", details);
        let failure = Failure::from(status);
        assert_eq!(failure.exit(), Exit::Rejected);
        insta::assert_snapshot!(failure, @r"
        error: not valid
          allowed_partner.owner: too long
          allowed_partner.labels: too many
          reason: INVALID_PARTNER
          limit: 64
        ");
    }

    #[test]
    fn what_the_message_says_is_not_said_again() {
        let told = |message: &str, fields: &[&str]| {
            let mut details = ErrorDetails::new();
            for field in fields {
                details.add_bad_request_violation(*field, "too long");
            }
            Failure::from(Status::with_error_details(Code::InvalidArgument, message, details))
                .to_string()
        };
        assert_eq!(told("owner: too long", &["owner"]), "error: owner: too long\n");
        insta::assert_snapshot!(told("owner: too long (and 1 more)", &["owner", "labels"]), @r"
        error: the request breaks several rules
          owner: too long
          labels: too long
        ");
    }

    #[test]
    fn the_items_of_a_batch_at_fault_are_found_by_path_or_by_index() {
        let mut details = ErrorDetails::new();
        details
            .add_bad_request_violation("requests[2].allowed_partner.owner", "too long")
            .add_bad_request_violation("requests[0].update_mask", "unknown")
            .add_bad_request_violation("requests[2].allowed_partner.labels", "too many");
        let failure =
            Failure::from(Status::with_error_details(Code::InvalidArgument, "not valid", details));
        let faults = [(0, "update_mask: unknown"), (2, "owner: too long; labels: too many")];
        assert_eq!(failure.faults(), faults.map(|(index, text)| (index, text.to_owned())));

        let mut details = ErrorDetails::new();
        details.set_error_info("DOMAIN_TAKEN", "federation.xmpp", [("index".into(), "7".into())]);
        let failure =
            Failure::from(Status::with_error_details(Code::AlreadyExists, "taken", details));
        assert_eq!(failure.faults(), [(7, "taken".to_owned())]);
    }

    #[test]
    fn a_code_without_words_still_says_something() {
        let failure = Failure::from(Status::not_found(""));
        assert_eq!(failure.exit(), Exit::NotFound);
        assert!(!failure.message().is_empty());
    }
}
