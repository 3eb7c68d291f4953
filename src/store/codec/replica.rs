//! Replicas, as far as they outlive the service.

use std::{collections::VecDeque, sync::Arc};

use prost::Message as _;

use super::{
    Damage, Kind, Stored, Texts, message,
    time::{self, StoredTime},
};
use crate::domain::{
    Revision,
    replica::{Live, Rejection, Replica, Report, ServerKind},
};

#[derive(Clone, PartialEq, prost::Message)]
struct StoredReplica {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    issuer: String,
    #[prost(string, tag = "3")]
    subject: String,
    #[prost(message, optional, tag = "4")]
    first_report_time: Option<StoredTime>,
    #[prost(message, optional, tag = "5")]
    last_report_time: Option<StoredTime>,
    #[prost(message, optional, tag = "6")]
    last_rejection: Option<StoredRejection>,
    /// Whether it still rejects that.
    #[prost(bool, tag = "7")]
    is_rejecting: bool,
    #[prost(uint32, tag = "8")]
    server_kind: u32,
    #[prost(string, tag = "9")]
    server_version: String,
    #[prost(string, tag = "10")]
    module_version: String,
    #[prost(string, tag = "11")]
    agent_version: String,
    #[prost(string, tag = "12")]
    host_name: String,
    #[prost(uint64, tag = "13")]
    applied: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRejection {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(message, optional, tag = "3")]
    time: Option<StoredTime>,
}

impl Stored for Replica {
    const KIND: Kind = Kind::Replica;

    fn to_payload(&self) -> Vec<u8> {
        let Self {
            id,
            issuer,
            subject,
            first_report_time,
            last_report_time,
            last_rejection,
            report,
            applications: _,
        } = self;
        let Report {
            server_kind,
            server_version,
            module_version,
            agent_version,
            host_name,
            applied,
            rejection,
            live: _,
        } = &**report;
        let stored = StoredReplica {
            id: id.to_string(),
            issuer: issuer.to_string(),
            subject: subject.to_string(),
            first_report_time: Some((*first_report_time).into()),
            last_report_time: Some((*last_report_time).into()),
            last_rejection: last_rejection.as_ref().map(Into::into),
            is_rejecting: rejection.is_some(),
            server_kind: kind_number(*server_kind),
            server_version: server_version.clone(),
            module_version: module_version.clone(),
            agent_version: agent_version.clone(),
            host_name: host_name.clone(),
            applied: applied.get(),
        };
        stored.encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        let StoredReplica {
            id,
            issuer,
            subject,
            first_report_time,
            last_report_time,
            last_rejection,
            is_rejecting,
            server_kind,
            server_version,
            module_version,
            agent_version,
            host_name,
            applied,
        } = message(payload)?;
        let last_rejection = last_rejection.map(Rejection::try_from).transpose()?;
        if is_rejecting && last_rejection.is_none() {
            return Err(Damage::missing("rejection"));
        }
        let report = Report {
            server_kind: numbered_kind(server_kind)?,
            server_version,
            module_version,
            agent_version,
            host_name,
            applied: Revision::new(applied),
            rejection: last_rejection.clone().filter(|_| is_rejecting),
            live: Live::default(),
        };
        Ok(Self {
            id: id.parse().map_err(|_| Damage::content("its id is none"))?,
            issuer: texts.shared(&issuer),
            subject: texts.shared(&subject),
            first_report_time: time::required(first_report_time, "first report")?,
            last_report_time: time::required(last_report_time, "last report")?,
            last_rejection,
            report: Arc::new(report),
            applications: VecDeque::new(),
        })
    }
}

impl From<&Rejection> for StoredRejection {
    fn from(Rejection { revision, reason, time }: &Rejection) -> Self {
        Self { revision: revision.get(), reason: reason.clone(), time: time.map(Into::into) }
    }
}

impl TryFrom<StoredRejection> for Rejection {
    type Error = Damage;

    fn try_from(stored: StoredRejection) -> Result<Self, Damage> {
        let StoredRejection { revision, reason, time } = stored;
        Ok(Self { revision: Revision::new(revision), reason, time: time::optional(time)? })
    }
}

// The numbers are what is on the disk: one that was ever used keeps its meaning.

const fn kind_number(kind: ServerKind) -> u32 {
    match kind {
        ServerKind::Prosody => 1,
        ServerKind::Ejabberd => 2,
        ServerKind::File => 3,
    }
}

fn numbered_kind(number: u32) -> Result<ServerKind, Damage> {
    match number {
        1 => Ok(ServerKind::Prosody),
        2 => Ok(ServerKind::Ejabberd),
        3 => Ok(ServerKind::File),
        _ => Err(Damage::Content(format!("there is no kind of server {number}"))),
    }
}
