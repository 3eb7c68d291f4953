//! Replicas: wire to domain and back.

use std::time::Duration;

use super::{
    convert::{self, timestamp},
    parse::{Broken, join, moment, span, staleness_policy},
};
use crate::{
    domain::{
        Revision,
        replica::{Live, Rejection, Replica, ReplicaId, Report, ServerKind, Sessions, State},
        replica::{Unenforced, View},
    },
    proto::v1 as pb,
    registry::replicas::Convergence,
};

/// The most characters of a version or a host name.
const MAX_LABEL_CHARS: usize = 256;
/// The most characters of a sentence.
const MAX_SENTENCE_CHARS: usize = 1_024;
/// The most characters of the name of a property.
const MAX_PROPERTY_CHARS: usize = 128;
/// The most characters of a domain as a server has it.
const MAX_DOMAIN_CHARS: usize = 253;
const MAX_SESSIONS: usize = 1_000;
const MAX_UNENFORCED: usize = 100;
const MAX_EXAMPLES: usize = 10;
const MAX_WARNINGS: usize = 50;

/// The most replicas that the answer to a wait names.
const MAX_PENDING: usize = 1_000;

/// The id in a replica's resource name.
pub fn replica_id(name: &str, broken: &mut Broken) -> Option<ReplicaId> {
    let Some(id) = name.strip_prefix("replicas/") else {
        broken.add("name", "not a replica's name; write replicas/ and its id");
        return None;
    };
    broken.take("name", id.parse())
}

/// What an agent says of its server.
pub fn report(message: &pb::ReplicaReport, path: &str, broken: &mut Broken) -> Option<Report> {
    // Exhaustive, here and below: a new field must be read before this compiles.
    let pb::ReplicaReport {
        server_kind,
        server_version,
        module_version,
        agent_version,
        host_name,
        applied_revision,
        apply_time,
        rejection: refused,
        partner_count,
        session_count,
        sessions,
        closed_session_count,
        closed_session_total,
        server_start_time,
        unenforced_properties,
        warnings,
        staleness_lease,
        staleness_policy: policy,
        stale,
        data_age,
    } = message;
    let at = |field: &str| join(path, field);
    let live = Live {
        apply_time: moment(*apply_time, &at("apply_time"), broken),
        partners: count(*partner_count, &at("partner_count"), broken),
        session_count: count(*session_count, &at("session_count"), broken),
        sessions: list(sessions, MAX_SESSIONS, &at("sessions"), broken, one_partners_sessions),
        closed: count(*closed_session_count, &at("closed_session_count"), broken),
        closed_total: count(*closed_session_total, &at("closed_session_total"), broken),
        start_time: moment(*server_start_time, &at("server_start_time"), broken),
        unenforced: list(
            unenforced_properties,
            MAX_UNENFORCED,
            &at("unenforced_properties"),
            broken,
            unenforced,
        ),
        warnings: list(warnings, MAX_WARNINGS, &at("warnings"), broken, |warning, _, _| {
            clean(warning, MAX_SENTENCE_CHARS)
        }),
        staleness_lease: optional_span(*staleness_lease, &at("staleness_lease"), broken),
        staleness_policy: (*policy != 0)
            .then(|| staleness_policy(*policy, &at("staleness_policy"), broken)),
        stale: *stale,
        data_age: optional_span(*data_age, &at("data_age"), broken),
    };
    let rejection = refused.as_ref().map(|it| rejection(it, &at("rejection"), broken));
    let applied = revision(*applied_revision, &at("applied_revision"), broken);
    Some(Report {
        server_kind: server_kind_of(*server_kind, &at("server_kind"), broken)?,
        server_version: clean(server_version, MAX_LABEL_CHARS),
        module_version: clean(module_version, MAX_LABEL_CHARS),
        agent_version: clean(agent_version, MAX_LABEL_CHARS),
        host_name: clean(host_name, MAX_LABEL_CHARS),
        applied,
        rejection,
        live,
    })
}

/// A revision that somebody states.
pub fn revision(number: i64, path: &str, broken: &mut Broken) -> Revision {
    Revision::new(count(number, path, broken).unsigned_abs())
}

fn rejection(message: &pb::ReplicaRejection, path: &str, broken: &mut Broken) -> Rejection {
    let pb::ReplicaRejection { revision: number, reason, reject_time } = message;
    let reason = clean(reason, MAX_SENTENCE_CHARS);
    if reason.is_empty() {
        broken.add(join(path, "reason"), "say why, in the server's words");
    }
    Rejection {
        revision: revision(*number, &join(path, "revision"), broken),
        reason,
        time: moment(*reject_time, &join(path, "reject_time"), broken),
    }
}

fn one_partners_sessions(
    message: &pb::PartnerSessions,
    path: &str,
    broken: &mut Broken,
) -> Sessions {
    let pb::PartnerSessions { domain, inbound_count, outbound_count } = message;
    Sessions {
        domain: clean(domain, MAX_DOMAIN_CHARS),
        inbound: count(*inbound_count, &join(path, "inbound_count"), broken),
        outbound: count(*outbound_count, &join(path, "outbound_count"), broken),
    }
}

fn unenforced(message: &pb::UnenforcedProperty, path: &str, broken: &mut Broken) -> Unenforced {
    let pb::UnenforcedProperty { property, reason, partner_count, examples } = message;
    Unenforced {
        property: clean(property, MAX_PROPERTY_CHARS),
        reason: clean(reason, MAX_SENTENCE_CHARS),
        partners: count(*partner_count, &join(path, "partner_count"), broken),
        examples: list(examples, MAX_EXAMPLES, &join(path, "examples"), broken, |domain, _, _| {
            clean(domain, MAX_DOMAIN_CHARS)
        }),
    }
}

/// The elements of a list, if it is not too long.
fn list<M, T>(
    messages: &[M],
    most: usize,
    path: &str,
    broken: &mut Broken,
    read: impl Fn(&M, &str, &mut Broken) -> T,
) -> Vec<T> {
    if messages.len() > most {
        broken.add(path, format!("{} elements; send at most {most}", messages.len()));
        return Vec::new();
    }
    let elements = messages.iter().enumerate();
    elements.map(|(at, message)| read(message, &format!("{path}[{at}]"), broken)).collect()
}

fn count(number: i64, path: &str, broken: &mut Broken) -> i64 {
    if number < 0 {
        broken.add(path, "negative; give 0 or more");
        return 0;
    }
    number
}

fn optional_span(
    wire: Option<prost_types::Duration>,
    path: &str,
    broken: &mut Broken,
) -> Option<Duration> {
    wire.and_then(|wire| span(wire, path, broken))
}

fn server_kind_of(wire: i32, path: &str, broken: &mut Broken) -> Option<ServerKind> {
    match pb::ServerKind::try_from(wire) {
        Ok(pb::ServerKind::Prosody) => Some(ServerKind::Prosody),
        Ok(pb::ServerKind::Ejabberd) => Some(ServerKind::Ejabberd),
        Ok(pb::ServerKind::File) => Some(ServerKind::File),
        Ok(pb::ServerKind::Unspecified) | Err(_) => {
            broken.add(path, "say which kind of server it is: PROSODY, EJABBERD or FILE");
            None
        }
    }
}

/// A text of a server, cut and without control characters: it is for people to look at, and not
/// worth losing a report for.
fn clean(text: &str, most: usize) -> String {
    let replaced = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    text.chars().take(most).map(replaced).collect()
}

/// A replica as its caller may see it.
pub fn replica(view: &View) -> pb::Replica {
    let View { replica, report, state, behind, data_age } = view;
    let Replica {
        id,
        issuer,
        subject,
        first_report_time,
        last_report_time,
        last_rejection,
        report: _,
        applications: _,
    } = &**replica;
    pb::Replica {
        name: format!("replicas/{id}"),
        state: wire_state(*state).into(),
        revisions_behind: i64::try_from(*behind).unwrap_or(i64::MAX),
        silent_since_time: (*state == State::Silent).then(|| timestamp(*last_report_time)),
        issuer: issuer.to_string(),
        subject: subject.to_string(),
        first_report_time: Some(timestamp(*first_report_time)),
        last_report_time: Some(timestamp(*last_report_time)),
        last_rejection: last_rejection.as_ref().map(wire_rejection),
        data_age: data_age.map(convert::duration),
        report: Some(wire_report(report)),
    }
}

fn wire_report(report: &Report) -> pb::ReplicaReport {
    let Report {
        server_kind,
        server_version,
        module_version,
        agent_version,
        host_name,
        applied,
        rejection,
        live,
    } = report;
    let Live {
        apply_time,
        partners,
        session_count,
        sessions,
        closed,
        closed_total,
        start_time,
        unenforced,
        warnings,
        staleness_lease,
        staleness_policy,
        stale,
        data_age,
    } = live;
    pb::ReplicaReport {
        server_kind: wire_kind(*server_kind).into(),
        server_version: server_version.clone(),
        module_version: module_version.clone(),
        agent_version: agent_version.clone(),
        host_name: host_name.clone(),
        applied_revision: applied.as_i64(),
        apply_time: apply_time.map(timestamp),
        rejection: rejection.as_ref().map(wire_rejection),
        partner_count: *partners,
        session_count: *session_count,
        sessions: sessions.iter().map(wire_sessions).collect(),
        closed_session_count: *closed,
        closed_session_total: *closed_total,
        server_start_time: start_time.map(timestamp),
        unenforced_properties: unenforced.iter().map(wire_unenforced).collect(),
        warnings: warnings.clone(),
        staleness_lease: staleness_lease.map(convert::duration),
        staleness_policy: staleness_policy.map_or(0, |it| convert::staleness_policy(it).into()),
        stale: *stale,
        data_age: data_age.map(convert::duration),
    }
}

fn wire_rejection(Rejection { revision, reason, time }: &Rejection) -> pb::ReplicaRejection {
    pb::ReplicaRejection {
        revision: revision.as_i64(),
        reason: reason.clone(),
        reject_time: time.map(timestamp),
    }
}

fn wire_sessions(Sessions { domain, inbound, outbound }: &Sessions) -> pb::PartnerSessions {
    pb::PartnerSessions {
        domain: domain.clone(),
        inbound_count: *inbound,
        outbound_count: *outbound,
    }
}

fn wire_unenforced(unenforced: &Unenforced) -> pb::UnenforcedProperty {
    let Unenforced { property, reason, partners, examples } = unenforced;
    pb::UnenforcedProperty {
        property: property.clone(),
        reason: reason.clone(),
        partner_count: *partners,
        examples: examples.clone(),
    }
}

const fn wire_kind(kind: ServerKind) -> pb::ServerKind {
    match kind {
        ServerKind::Prosody => pb::ServerKind::Prosody,
        ServerKind::Ejabberd => pb::ServerKind::Ejabberd,
        ServerKind::File => pb::ServerKind::File,
    }
}

const fn wire_state(state: State) -> pb::replica::State {
    match state {
        State::UpToDate => pb::replica::State::UpToDate,
        State::Behind => pb::replica::State::Behind,
        State::Rejecting => pb::replica::State::Rejecting,
        State::Silent => pb::replica::State::Silent,
    }
}

/// How far the replicas are with a revision.
pub fn convergence(found: &Convergence) -> pb::WaitForConvergenceResponse {
    let Convergence { revision, replicas, in_force, closed, pending } = found;
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let named = pending.iter().take(MAX_PENDING).map(|(replica, state)| {
        pb::wait_for_convergence_response::Pending {
            replica: format!("replicas/{}", replica.id),
            state: wire_state(*state).into(),
            applied_revision: replica.report.applied.as_i64(),
            rejection: match state {
                State::Rejecting => replica.report.rejection.as_ref().map(wire_rejection),
                State::UpToDate | State::Behind | State::Silent => None,
            },
            silent_since_time: (*state == State::Silent)
                .then(|| timestamp(replica.last_report_time)),
        }
    });
    pb::WaitForConvergenceResponse {
        revision: revision.as_i64(),
        converged: found.is_reached(),
        replica_count: number(*replicas),
        in_force_count: number(*in_force),
        closed_session_count: *closed,
        pending: named.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_cut_and_cannot_drive_a_terminal() {
        assert_eq!(clean("a\u{1b}[2J\nb", 256), "a\u{fffd}[2J\u{fffd}b");
        assert_eq!(clean(&"ü".repeat(300), 256).chars().count(), 256);
    }
}
