//! What a store should hold, kept beside it, and sample data.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    domain::{
        AllowedPartner, DomainName, Revision, Terms,
        audit::{
            Actor, AuditEntry, Chain, ChainHead, Event, FieldChange, Refusal, ResourceChange,
            SigningKey, Verb,
        },
        backup::{self, Restored},
        mask::TermField,
        negotiation::Negotiation,
        partner::PartnerType,
        replica::{Live, Rejection, Replica, Report, ServerKind},
        revocation::{Revocation, Target},
        role::{DomainScope, Origin, Permission, Role, RoleRecord, RoleTerms},
        settings::{
            FederationMode, FederationSettings, Passphrase, SettingsValues, StalenessPolicy,
        },
    },
    store::{Answer, AnswerResult, Change, Commit, RequestKey, Store, StoreError, Write},
};

/// A private key for Ed25519 in PKCS #8, whose 32 bytes are all alike.
const KEY: &[u8] = &[
    48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
];

/// A store's content as it should be.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub partners: BTreeMap<DomainName, Arc<AllowedPartner>>,
    pub settings: Arc<FederationSettings>,
    pub roles: BTreeMap<Arc<str>, Arc<Role>>,
    pub revocations: BTreeMap<Uuid, Arc<Revocation>>,
    /// How many commits have left the log.
    pub compacted: u64,
    /// Those still in it.
    pub commits: Vec<Commit>,
    /// The last audit entry that was removed.
    pub audit_base: ChainHead,
    /// Those that are there.
    pub entries: Vec<AuditEntry>,
    pub answers: HashMap<RequestKey, Answer>,
}

impl Model {
    pub fn revision(&self) -> Revision {
        Revision::new(self.compacted + self.commits.len() as u64)
    }

    pub fn oldest_revision(&self) -> Revision {
        Revision::new(self.compacted + 1)
    }

    /// Forgets the history before `oldest`. Returns the deleted partners that went with it.
    pub fn compact(&mut self, oldest: Revision) -> Vec<DomainName> {
        let gone =
            |partner: &AllowedPartner| partner.delete_time.is_some() && partner.revision < oldest;
        self.commits.retain(|commit| commit.revision >= oldest);
        self.compacted = oldest.get() - 1;
        let purged: Vec<_> =
            self.partners.values().filter(|it| gone(it)).map(|it| it.domain.clone()).collect();
        self.partners.retain(|_, partner| !gone(partner));
        purged
    }

    pub fn audit_head(&self) -> ChainHead {
        self.entries.last().map_or(self.audit_base, AuditEntry::head)
    }

    /// Forgets the `count` oldest audit entries. Returns the entry that says so.
    pub fn compact_audit(&mut self, count: usize) -> AuditEntry {
        let (head, last) = (self.audit_head(), self.entries[count - 1].head());
        // The same each time, so that a history can be told again after a crash.
        let key = SigningKey::from_pkcs8(KEY).unwrap();
        let removal = key.sign_removal(head, last, count as u64, time(last.sequence));
        let write = self.note(Event::Retention(removal));
        self.entries.drain(..count);
        self.audit_base = last;
        write.entries.into_iter().next().unwrap()
    }

    /// A commit that sets these partners, with its audit entry.
    pub fn set(&mut self, partners: impl IntoIterator<Item = AllowedPartner>) -> Write {
        let revision = self.revision().next();
        let changes = partners.into_iter().map(|partner| {
            let after = Arc::new(AllowedPartner { revision, ..partner });
            let before = self.partners.insert(after.domain.clone(), Arc::clone(&after));
            Change::Partner { before, after }
        });
        let changes = changes.collect();
        self.commit(changes)
    }

    /// A commit that sets the settings, with its audit entry.
    pub fn set_settings(&mut self, settings: FederationSettings) -> Write {
        let after = Arc::new(FederationSettings { revision: self.revision().next(), ..settings });
        let before = std::mem::replace(&mut self.settings, Arc::clone(&after));
        self.commit(vec![Change::Settings { before, after }])
    }

    /// A commit that makes or changes a role, with its audit entry.
    pub fn set_role(&mut self, id: &str) -> Write {
        let after = Arc::new(role(id, self.revision().next()));
        let before = self.roles.insert(id.into(), Arc::clone(&after));
        self.commit(vec![Change::Role { before, after: Some(after) }])
    }

    /// A commit that deletes a role, with its audit entry.
    pub fn remove_role(&mut self, id: &str) -> Write {
        let before = self.roles.remove(id);
        self.commit(vec![Change::Role { before, after: None }])
    }

    /// A commit that revokes something, with its audit entry.
    pub fn revoke(&mut self, id: u64) -> Write {
        let after = Arc::new(revocation(id, self.revision().next()));
        let before = self.revocations.insert(after.id, Arc::clone(&after));
        self.commit(vec![Change::Revocation { before, after: Some(after) }])
    }

    /// A commit that takes a revocation back, with its audit entry.
    pub fn take_back(&mut self, id: u64) -> Write {
        let before = self.revocations.remove(&Uuid::from_u64_pair(9, id));
        self.commit(vec![Change::Revocation { before, after: None }])
    }

    fn commit(&mut self, changes: Vec<Change>) -> Write {
        let revision = self.revision().next();
        let time = time(revision.get());
        let head = self.audit_head();
        let resources = changes.iter().map(resource_change).collect();
        let entry = AuditEntry::after(
            head,
            time,
            actor(revision),
            revision,
            Event::Commit { changes: resources },
        );
        let commit = Commit { revision, time, actor: actor(revision), changes };
        self.commits.push(commit.clone());
        self.entries.push(entry.clone());
        Write { commit: Some((commit, entry)), ..Write::default() }
    }

    /// An event of no commit.
    pub fn note(&mut self, event: Event) -> Write {
        let head = self.audit_head();
        let revision = self.revision();
        let entry = AuditEntry::after(head, time(revision.get()), actor(revision), revision, event);
        self.entries.push(entry.clone());
        Write { entries: vec![entry], ..Write::default() }
    }

    /// The same write, with an answer that expires at second `expiry`.
    pub fn answered(&mut self, write: Write, id: u64, expiry: u64) -> Write {
        let partners = write.commit.iter().flat_map(|(commit, _)| &commit.changes);
        let partners = partners.map(|change| match change {
            Change::Partner { after, .. } => Some(Arc::clone(after)),
            Change::Settings { .. } | Change::Role { .. } | Change::Revocation { .. } => None,
        });
        let answer = Answer {
            key: request_key(id),
            fingerprint: [u8::try_from(id % 256).unwrap(); 32],
            expire_time: time(expiry),
            revision: self.revision(),
            result: AnswerResult::Partners(partners.collect()),
        };
        self.answers.insert(answer.key.clone(), answer.clone());
        Write { answer: Some(answer), ..write }
    }

    /// The next write of a history in which everything happens, the same each time.
    pub fn step(&mut self) -> Write {
        let number = self.revision().next().get();
        let domain = domain(number % 7);
        let write = match number % 5 {
            0 if number.is_multiple_of(4) => match self.roles.keys().next().cloned() {
                Some(id) if number.is_multiple_of(3) => self.remove_role(&id),
                _ => self.set_role(&format!("role-{}", number % 3)),
            },
            0 => self.set_settings(settings(number)),
            1 => self.set([rich_partner(domain, 120, number)]),
            2 => match self.partners.get(&domain).cloned() {
                Some(partner) => self.set([AllowedPartner {
                    delete_time: Some(time(number)),
                    ..AllowedPartner::clone(&partner)
                }]),
                None => self.set([partner(domain)]),
            },
            _ => self.set([partner(domain), plain_partner(number % 31 + 100)]),
        };
        if number.is_multiple_of(3) { self.answered(write, number, number + 100) } else { write }
    }

    /// The history of `steps` writes, and what it adds up to.
    pub fn history(steps: u64) -> (Self, Vec<Write>) {
        let mut model = Self::default();
        let writes = (0..steps).map(|_| model.step()).collect();
        (model, writes)
    }

    /// Asserts that the store holds this and nothing else.
    #[track_caller]
    pub fn assert_is_in(&self, store: &dyn Store) {
        let state = store.load().unwrap();
        assert_eq!(state.revision, self.revision());
        assert_eq!(state.oldest_revision, self.oldest_revision());
        assert_eq!(state.partners, self.partners.values().cloned().collect::<Vec<_>>());
        assert_eq!(state.settings, self.settings);
        assert_eq!(state.revocations, self.revocations.values().cloned().collect::<Vec<_>>());
        assert_eq!(state.roles, self.roles.values().cloned().collect::<Vec<_>>());
        let chain = Chain { base: self.audit_base, head: self.audit_head() };
        assert_eq!((state.audit, store.audit()), (chain, chain));
        let oldest = self.oldest_revision();
        let commits = store.commits_after(Revision::new(self.compacted), usize::MAX).unwrap();
        assert_eq!(commits, self.commits);
        if Revision::ZERO.next() < oldest && oldest <= self.revision() {
            let error = store.commits_after(Revision::new(self.compacted - 1), 1).unwrap_err();
            assert!(matches!(error, StoreError::Compacted { oldest: told } if told == oldest));
        }
        let base = self.audit_base.sequence;
        assert_eq!(store.audit_after(base, usize::MAX).unwrap(), self.entries);
        if let Some(before) = base.checked_sub(1) {
            let error = store.audit_after(before, 1).unwrap_err();
            assert!(matches!(error, StoreError::AuditCompacted { oldest } if oldest == base + 1));
        }
        for (key, answer) in &self.answers {
            assert_eq!(store.answer(key).unwrap().as_ref(), Some(answer));
        }
    }
}

fn resource_change(change: &Change) -> ResourceChange {
    let (resource, verb) = match change {
        Change::Partner { before: None, after } => (after.domain.to_string(), Verb::Create),
        Change::Partner { after, .. } if after.delete_time.is_some() => {
            (after.domain.to_string(), Verb::Delete)
        }
        Change::Partner { before: Some(before), after } if before.delete_time.is_some() => {
            (after.domain.to_string(), Verb::Undelete)
        }
        Change::Partner { after, .. } => (after.domain.to_string(), Verb::Update),
        Change::Settings { .. } => ("federationSettings".to_owned(), Verb::Update),
        Change::Revocation { before, after } => {
            let id = after.as_ref().or(before.as_ref()).unwrap().id;
            (id.to_string(), if after.is_some() { Verb::Create } else { Verb::Delete })
        }
        Change::Role { before, after } => match (before, after) {
            (None, Some(role)) => (role.id.to_string(), Verb::Create),
            (Some(role), None) => (role.id.to_string(), Verb::Delete),
            (Some(_), Some(role)) => (role.id.to_string(), Verb::Update),
            (None, None) => (String::new(), Verb::Update),
        },
    };
    let field = FieldChange { field: "owner".into(), before: "a".into(), after: "ü".into() };
    ResourceChange { resource, verb, fields: vec![field] }
}

fn actor(revision: Revision) -> Actor {
    Actor {
        subject: "alice@contoso.com".into(),
        issuer: "https://issuer.example".into(),
        request_id: format!("request-{revision}").into(),
        reason: if revision.get().is_multiple_of(2) { "ticket 17".into() } else { "".into() },
    }
}

pub fn request_key(id: u64) -> RequestKey {
    RequestKey {
        issuer: "https://issuer.example".into(),
        subject: "alice@contoso.com".into(),
        id: Uuid::from_u64_pair(7, id),
    }
}

/// Second `second` of the sample's time, and some nanoseconds.
pub fn time(second: u64) -> Timestamp {
    Timestamp::new(1_800_000_000 + i64::try_from(second).unwrap(), 123_456_789).unwrap()
}

pub fn domain(number: u64) -> DomainName {
    DomainName::parse(&format!("p{number}.example.com")).unwrap()
}

/// A partner with little in it.
pub fn plain_partner(number: u64) -> AllowedPartner {
    partner(domain(number))
}

pub fn partner(domain: DomainName) -> AllowedPartner {
    AllowedPartner {
        domain,
        uid: Uuid::from_u128(0x1234_5678_9abc_4ef0_8123_4567_89ab_cdef),
        terms: Terms::default(),
        create_time: time(0),
        update_time: time(1),
        creator: "alice".into(),
        updater: "bob".into(),
        revision: Revision::new(1),
        delete_time: None,
        expired: false,
    }
}

/// A partner with every field set and `domains` additional domains, all its own.
pub fn rich_partner(domain: DomainName, domains: usize, seed: u64) -> AllowedPartner {
    let additional = (0..domains)
        .map(|number| DomainName::parse(&format!("additional-{seed}-{number}.{domain}")).unwrap());
    let terms = Terms {
        description: "Ein Partner in Zürich".into(),
        additional_domains: additional.collect(),
        partner_type: PartnerType::Federated,
        proxy_fqdn: Some(DomainName::parse("proxy.example.com").unwrap()),
        connection_limit: Some(17),
        keep_alive_enabled: false,
        tls_negotiation: Negotiation::Optional,
        sasl_negotiation: Negotiation::NotSupported,
        dialback_enabled: true,
        suspended: true,
        expire_time: Some(time(1_000)),
        review_time: Some(time(500)),
        owner: "Zoë".into(),
        labels: [("tier", "gold"), ("a.b/c", "")].into(),
    };
    AllowedPartner { terms, ..partner(domain) }
}

/// A replica with everything that is kept of one, at revision `applied`.
pub fn replica(number: u64, applied: u64) -> Replica {
    let rejection = Rejection {
        revision: Revision::new(applied + 1),
        reason: "line 17: no such domain".into(),
        time: Some(time(applied)),
    };
    Replica {
        id: format!("server-{number}").parse().unwrap(),
        issuer: "https://issuer.example".into(),
        subject: format!("agent-{number}").into(),
        first_report_time: time(1),
        last_report_time: time(applied),
        last_rejection: Some(rejection.clone()),
        report: Arc::new(Report {
            server_kind: ServerKind::Ejabberd,
            server_version: "ejabberd 23.10".into(),
            module_version: "1.0.0".into(),
            agent_version: "0.1.0".into(),
            host_name: "zürich-1".into(),
            applied: Revision::new(applied),
            rejection: number.is_multiple_of(2).then_some(rejection),
            live: Live::default(),
        }),
        applications: VecDeque::new(),
    }
}

/// A role with every field set.
pub fn role(id: &str, revision: Revision) -> Role {
    let record = RoleRecord {
        uid: Uuid::from_u128(0x1234_5678_9abc_4ef0_8123_4567_89ab_cdef),
        template: "operator".into(),
        create_time: time(0),
        update_time: time(revision.get() % 1_000),
        creator: "alice".into(),
        updater: "bob".into(),
        revision,
    };
    let terms = RoleTerms {
        description: "Für die Kollegen".into(),
        permissions: Permission::PartnersGet | Permission::PartnersUpdate,
        domain_scopes: vec![
            DomainScope::Exactly(domain(1)),
            DomainScope::Below(DomainName::parse("contoso.com").unwrap()),
        ],
        updatable_fields: Some(TermField::Owner | TermField::Labels),
    };
    Role { id: id.into(), terms, origin: Origin::Custom(record) }
}

/// An event of every kind but a commit.
pub fn events(head: ChainHead) -> Vec<Event> {
    let refusal = Refusal {
        reason: "TOKEN_EXPIRED".into(),
        permission: "allowedPartners.get".into(),
        source: "2001:db8::1".into(),
        claimed_issuer: "https://issuer.example".into(),
        claimed_subject: "Zoë".into(),
        count: 17,
        first_time: time(1),
        last_time: time(2),
    };
    vec![
        Event::Start { version: "1.2.3".into() },
        Event::Denial(refusal.clone()),
        Event::LoginFailure(refusal),
        Event::Checkpoint(SigningKey::generate().sign(head, time(3))),
        Event::Retention(SigningKey::generate().sign_removal(head, head, 3, time(4))),
        Event::Replica(ResourceChange {
            resource: "replicas/zürich-1".into(),
            verb: Verb::Create,
            fields: vec![FieldChange {
                field: "subject".into(),
                before: "".into(),
                after: "agent-1".into(),
            }],
        }),
        Event::Stop,
        Event::Backup { revision: Revision::new(4), records: 9 },
        Event::Restore {
            origin: backup::Origin { revision: Revision::new(4), time: time(4), digest: [4; 32] },
            restored: Restored { created: 1, updated: 2, deleted: 3, unchanged: 4 },
        },
    ]
}

/// A revocation of a token, a subject or a key.
pub fn revocation(id: u64, revision: Revision) -> Revocation {
    let issuer = "https://issuer.example".into();
    Revocation {
        id: Uuid::from_u64_pair(9, id),
        target: match id % 3 {
            0 => Target::Token { issuer, token_id: "t-1".into() },
            1 => Target::Subject { issuer, subject: "mallory".into() },
            _ => Target::Key { issuer, key_id: "k-1".into() },
        },
        reason: "verloren im Büro".into(),
        creator: "alice".into(),
        create_time: time(id),
        expire_time: id.is_multiple_of(2).then(|| time(id + 1_000)),
        revision,
    }
}

/// Settings with every field set.
pub fn settings(seed: u64) -> FederationSettings {
    let seconds = Duration::from_secs(seed + 60);
    FederationSettings {
        values: SettingsValues {
            mode: FederationMode::AllowAllExceptSuspended,
            connection_limit: 999,
            partner_connection_limit: 19,
            keep_alive_interval: seconds,
            stream_establishment_timeout: seconds * 2,
            stream_inactivity_timeout: seconds * 3,
            subscription_refresh_interval: seconds * 4,
            message_body_logging_enabled: true,
            staleness_lease: seconds * 5 + Duration::from_nanos(1),
            staleness_policy: StalenessPolicy::DenyAll,
            dialback_passphrase: Some(Passphrase::new("correct horse battery".into())),
        },
        update_time: Some(time(seed)),
        updater: "carol".into(),
        revision: Revision::ZERO,
    }
}
