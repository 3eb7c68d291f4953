//! Waiting until the XMPP servers enforce a revision, and saying which do not.

use std::time::{Duration, Instant};

use clap::Args;

use super::{
    client::Client,
    console::{count, plain},
    failure::{Exit, Failure, Outcome},
    output::{self, Format, partners::time},
    values,
};
use crate::proto::v1::{
    WaitForConvergenceRequest, WaitForConvergenceResponse, replica::State,
    wait_for_convergence_response::Pending,
};

/// The flags of every command whose change the XMPP servers have to enforce.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Change")]
pub struct WaitFlags {
    /// Wait until the XMPP servers enforce it, and say which of them do
    #[arg(long)]
    wait: bool,

    /// How long to wait for them
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "wait")]
    #[arg(value_parser = values::duration)]
    wait_timeout: Duration,
}

/// Where the outcome of a wait is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// On standard output.
    Out,
    /// On standard error, because standard output is for something else.
    Aside,
}

impl Telling {
    /// Where to tell it beside output in this form.
    pub fn beside(format: Option<Format>) -> Self {
        if format.is_some() { Self::Aside } else { Self::Out }
    }
}

impl WaitFlags {
    /// Waits for `revision`, if that was asked for.
    ///
    /// # Errors
    /// The service refuses; a server does not enforce it in time.
    pub async fn wait(&self, client: &Client, revision: i64, telling: Telling) -> Outcome {
        if !self.wait {
            return Ok(());
        }
        let found = converged(client, revision, self.wait_timeout).await?;
        let text = told(&found);
        match telling {
            Telling::Out => output::line(text.trim_end())?,
            Telling::Aside => eprintln!("{}", text.trim_end()),
        }
        verdict(&found)
    }
}

/// Waits until every server that is not silent enforces `revision`, 0 being the last one, or for
/// `timeout`. The service bounds a single wait, so it is asked again while there is time.
///
/// # Errors
/// The service refuses.
pub async fn converged(
    client: &Client,
    revision: i64,
    timeout: Duration,
) -> Outcome<WaitForConvergenceResponse> {
    let until = Instant::now() + timeout;
    let mut revision = revision;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let request = WaitForConvergenceRequest {
            revision,
            timeout: Some(prost_types::Duration {
                seconds: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(left.subsec_nanos()).unwrap_or(0),
            }),
        };
        let found = client.wait_for_convergence(request).await?;
        if found.converged || Instant::now() >= until {
            return Ok(found);
        }
        revision = found.revision;
    }
}

/// Success if every server enforces it.
///
/// # Errors
/// One does not, or there is none.
pub fn verdict(found: &WaitForConvergenceResponse) -> Outcome {
    if found.replica_count > 0 && found.in_force_count == found.replica_count {
        return Ok(());
    }
    Err(Failure::silent(Exit::NotEverywhere))
}

/// On how many servers a revision is in force, and what is the matter with the others.
pub fn told(found: &WaitForConvergenceResponse) -> String {
    let number = |number: i32| usize::try_from(number).unwrap_or_default();
    let (all, in_force) = (number(found.replica_count), number(found.in_force_count));
    if all == 0 {
        return "no server reports to this service, so it is not known to be in force anywhere\n"
            .to_owned();
    }
    let mut text = format!(
        "in force on {} of {}, {} closed\n",
        count(in_force),
        many(all, "server"),
        many(usize::try_from(found.closed_session_count).unwrap_or_default(), "session")
    );
    for pending in &found.pending {
        text += &format!("  {}\n", plain(&why_not(pending)));
    }
    let unnamed = all.saturating_sub(in_force + found.pending.len());
    if unnamed > 0 {
        text += &format!("  and {} more\n", count(unnamed));
    }
    text
}

fn why_not(pending: &Pending) -> String {
    let replica = pending.replica.trim_start_matches("replicas/");
    let at = output::number(pending.applied_revision);
    match (pending.state(), &pending.rejection) {
        (State::Rejecting, Some(rejection)) => format!(
            "{replica}: rejects revision {}: {}; revision {at} is in force",
            output::number(rejection.revision),
            rejection.reason
        ),
        (State::Silent, _) => format!(
            "{replica}: silent since {}, at revision {at} then",
            time(pending.silent_since_time.as_ref())
        ),
        _ => format!("{replica}: behind, at revision {at}"),
    }
}

fn many(number: usize, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::ReplicaRejection;

    fn pending(replica: &str, state: State) -> Pending {
        Pending {
            replica: format!("replicas/{replica}"),
            state: state.into(),
            applied_revision: 15,
            rejection: (state == State::Rejecting).then(|| ReplicaRejection {
                revision: 17,
                reason: "line 3: no \u{1b}[2Jsuch method".into(),
                ..Default::default()
            }),
            silent_since_time: (state == State::Silent)
                .then_some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 }),
        }
    }

    #[test]
    fn the_servers_that_lack_a_revision_are_named_with_the_reason() {
        let found = WaitForConvergenceResponse {
            revision: 17,
            replica_count: 1_204,
            in_force_count: 1_200,
            closed_session_count: 1,
            pending: vec![
                pending("prosody-1", State::Behind),
                pending("prosody-2", State::Rejecting),
                pending("ejabberd-1", State::Silent),
            ],
            ..Default::default()
        };
        insta::assert_snapshot!(told(&found), @r"
        in force on 1,200 of 1,204 servers, 1 session closed
          prosody-1: behind, at revision 15
          prosody-2: rejects revision 17: line 3: no �[2Jsuch method; revision 15 is in force
          ejabberd-1: silent since 2027-01-15T08:00:00Z, at revision 15 then
          and 1 more
        ");
        assert_eq!(verdict(&found).unwrap_err().exit(), Exit::NotEverywhere);
    }

    #[test]
    fn a_change_that_nobody_enforces_is_not_in_force_everywhere() {
        let nobody = WaitForConvergenceResponse { converged: true, ..Default::default() };
        assert_eq!(verdict(&nobody).unwrap_err().exit(), Exit::NotEverywhere);
        assert!(told(&nobody).contains("no server reports"));
        let all = WaitForConvergenceResponse { replica_count: 2, in_force_count: 2, ..nobody };
        verdict(&all).unwrap();
        assert_eq!(told(&all), "in force on 2 of 2 servers, 0 sessions closed\n");
    }
}
