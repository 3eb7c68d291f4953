//! The records of a backup: domain to wire, and back.

use std::{collections::HashSet, sync::Arc};

use enumset::EnumSet;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    domain::{
        AllowedPartner, Revision, Violation,
        revocation::Revocation,
        role::{Origin, Role, RoleRecord},
        settings::FederationSettings,
    },
    grpc::{
        convert,
        parse::{self, Broken, join},
        revocations, role_requests,
    },
    proto::{
        backup::FORMAT,
        v1::{self as pb, backup_record::Record as Wire},
    },
    registry::{
        backup::{Inventory, Record},
        restore::Intake,
    },
};

/// The header of a backup.
pub(super) fn header(inventory: &Inventory) -> pb::BackupHeader {
    let Inventory { revision, time, partners, deleted_partners, roles, revocations } = *inventory;
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    pb::BackupHeader {
        format: FORMAT,
        server_version: env!("CARGO_PKG_VERSION").into(),
        revision: revision.as_i64(),
        create_time: Some(convert::timestamp(time)),
        partner_count: count(partners),
        deleted_partner_count: count(deleted_partners),
        role_count: count(roles),
        revocation_count: count(revocations),
    }
}

/// A record of a backup.
pub(super) fn record(record: Record<'_>) -> Wire {
    match record {
        Record::Settings(settings) => Wire::FederationSettings(pb::FederationSettings {
            dialback_passphrase: convert::dialback_passphrase(settings),
            etag: String::new(),
            ..convert::settings(settings)
        }),
        Record::Role(role) => Wire::Role(pb::Role { etag: String::new(), ..convert::role(role) }),
        Record::Revocation(revocation) => Wire::Revocation(convert::revocation(revocation)),
        Record::Partner(partner) => Wire::AllowedPartner(convert::stored_partner(partner)),
    }
}

/// Hands records to an intake, and gathers what is wrong with them.
#[derive(Debug)]
pub(super) struct Records {
    intake: Intake,
    broken: Broken,
    /// Subjects that many records share: each is kept once.
    subjects: HashSet<Arc<str>>,
}

impl Records {
    pub fn into(intake: Intake) -> Self {
        Self { intake, broken: Broken::default(), subjects: HashSet::new() }
    }

    /// About how many bytes they take.
    pub const fn bytes(&self) -> usize {
        self.intake.bytes()
    }

    /// Takes the record with this number.
    pub fn take(&mut self, number: u64, record: &Wire) {
        let mut broken = Broken::default();
        let field = |name: &str| format!("records[{number}].{name}");
        let (path, name) = match record {
            Wire::FederationSettings(message) => (field("federation_settings"), &message.name),
            Wire::Role(message) => (field("role"), &message.name),
            Wire::Revocation(message) => (field("revocation"), &message.name),
            Wire::AllowedPartner(message) => (field("allowed_partner"), &message.name),
            // Known by its place; the reader hands neither on.
            Wire::Header(_) | Wire::Trailer(_) => return,
        };
        let violations = match record {
            Wire::FederationSettings(message) => {
                let settings = self.settings(message, &path, &mut broken);
                settings.map(|settings| self.intake.settings(settings))
            }
            Wire::Role(message) => {
                let role = self.role(message, &path, &mut broken);
                role.map(|role| self.intake.role(role))
            }
            Wire::Revocation(message) => {
                let revocation = self.revocation(message, &path, &mut broken);
                revocation.map(|revocation| self.intake.revocation(revocation))
            }
            Wire::AllowedPartner(message) => {
                let partner = self.partner(message, &path, &mut broken);
                partner.map(|partner| self.intake.partner(partner))
            }
            Wire::Header(_) | Wire::Trailer(_) => None,
        };
        for violation in violations.into_iter().flatten() {
            let Violation { field, description } = violation.under(&path);
            broken.add(field, description);
        }
        self.broken.absorb(broken, name);
    }

    /// The records, once nothing is wrong with any of them.
    pub fn finish(self) -> (Intake, Broken) {
        (self.intake, self.broken)
    }

    fn settings(
        &mut self,
        message: &pb::FederationSettings,
        path: &str,
        broken: &mut Broken,
    ) -> Option<FederationSettings> {
        Some(FederationSettings {
            values: parse::settings(message, EnumSet::all(), path, broken),
            update_time: parse::moment(message.update_time, &join(path, "update_time"), broken),
            updater: self.subject(&message.updater),
            revision: revision(message.revision, path, broken)?,
        })
    }

    fn role(&mut self, message: &pb::Role, path: &str, broken: &mut Broken) -> Option<Role> {
        let id = parse::role_id(&message.name, &join(path, "name"), broken)?;
        let template = match message.template.as_str() {
            "" => "",
            name => parse::role_id(name, &join(path, "template"), broken)?,
        };
        let record = RoleRecord {
            uid: uid(&message.uid, &join(path, "uid"), broken)?,
            template: template.into(),
            create_time: moment(message.create_time, &join(path, "create_time"), broken)?,
            update_time: moment(message.update_time, &join(path, "update_time"), broken)?,
            creator: self.subject(&message.creator),
            updater: self.subject(&message.updater),
            revision: revision(message.revision, path, broken)?,
        };
        let terms = role_requests::terms(message, EnumSet::all(), path, broken);
        Some(Role { id: id.into(), terms, origin: Origin::Custom(record) })
    }

    fn revocation(
        &mut self,
        message: &pb::Revocation,
        path: &str,
        broken: &mut Broken,
    ) -> Option<Revocation> {
        let id = message.name.strip_prefix("revocations/").unwrap_or_default();
        Some(Revocation {
            id: uid(id, &join(path, "name"), broken)?,
            target: revocations::target(message, path, broken)?,
            reason: message.reason.as_str().into(),
            creator: self.subject(&message.creator),
            create_time: moment(message.create_time, &join(path, "create_time"), broken)?,
            expire_time: parse::moment(message.expire_time, &join(path, "expire_time"), broken),
            revision: revision(message.revision, path, broken)?,
        })
    }

    fn partner(
        &mut self,
        message: &pb::AllowedPartner,
        path: &str,
        broken: &mut Broken,
    ) -> Option<AllowedPartner> {
        let domain = parse::partner_name(&message.name, &join(path, "name"), broken);
        Some(AllowedPartner {
            terms: parse::terms(message, EnumSet::all(), path, broken),
            domain: domain?,
            uid: uid(&message.uid, &join(path, "uid"), broken)?,
            create_time: moment(message.create_time, &join(path, "create_time"), broken)?,
            update_time: moment(message.update_time, &join(path, "update_time"), broken)?,
            creator: self.subject(&message.creator),
            updater: self.subject(&message.updater),
            revision: revision(message.revision, path, broken)?,
            delete_time: parse::moment(message.delete_time, &join(path, "delete_time"), broken),
            expired: message.expired,
        })
    }

    fn subject(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.subjects.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.subjects.insert(Arc::clone(&new));
        new
    }
}

fn uid(text: &str, path: &str, broken: &mut Broken) -> Option<Uuid> {
    let uid = Uuid::parse_str(text).ok();
    if uid.is_none() {
        broken.add(path, "not a UUID");
    }
    uid
}

pub(super) fn moment(
    wire: Option<prost_types::Timestamp>,
    path: &str,
    broken: &mut Broken,
) -> Option<Timestamp> {
    if wire.is_none() {
        broken.add(path, "it is missing");
    }
    parse::moment(wire, path, broken)
}

pub(super) fn revision(wire: i64, path: &str, broken: &mut Broken) -> Option<Revision> {
    let revision = u64::try_from(wire).ok().map(Revision::new);
    if revision.is_none() {
        broken.add(join(path, "revision"), "not a revision");
    }
    revision
}
