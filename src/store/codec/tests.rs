//! Round trips, and what happens to bytes that were not written like this.

use std::{sync::Arc, time::Duration};

use enumset::EnumSet;
use jiff::Timestamp;
use proptest::{collection, option, prelude::*, sample::select};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        AllowedPartner, DomainName, Revision, Terms,
        audit::{Actor, AuditEntry, ChainHead, Event, FieldChange, ResourceChange, Verb},
        backup::Restored,
        negotiation::Negotiation,
        partner::PartnerType,
        replica::Replica,
        role::{DomainScope, Role},
        settings::{
            FederationMode, FederationSettings, Passphrase, SettingsValues, StalenessPolicy,
        },
    },
    store::{
        Answer, AnswerResult, Change, Commit, RequestKey,
        conformance::model::{domain, events, partner, replica, revocation, role},
    },
};

const KEY: &[u8] = b"pcontoso.com";

fn round_trip<T: Stored>(value: &T) -> T {
    decode(KEY, &encode(KEY, value), &mut Texts::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_partner_comes_back_as_it_was(partner in partners()) {
        prop_assert_eq!(round_trip(&partner), partner);
    }

    #[test]
    fn settings_come_back_as_they_were(settings in settings()) {
        prop_assert_eq!(round_trip(&settings), settings);
    }

    #[test]
    fn a_revocation_comes_back_as_it_was(id in any::<u32>()) {
        let revocation = revocation(id.into(), Revision::new(7));
        prop_assert_eq!(round_trip(&revocation), revocation);
    }

    #[test]
    fn a_role_comes_back_as_it_was(role in roles()) {
        prop_assert_eq!(round_trip(&role), role);
    }

    #[test]
    fn a_commit_comes_back_as_it_was(commit in commits()) {
        prop_assert_eq!(round_trip(&commit), commit);
    }

    #[test]
    fn an_audit_entry_comes_back_as_it_was_and_intact(entry in audit_entries()) {
        let read = round_trip(&entry);
        prop_assert!(read.is_intact());
        prop_assert_eq!(read, entry);
    }

    #[test]
    fn an_answer_comes_back_as_it_was(answer in answers()) {
        prop_assert_eq!(round_trip(&answer), answer);
    }

    #[test]
    fn a_replica_comes_back_as_far_as_it_is_kept(number in 0..9_u64, applied in 0..u64::MAX) {
        let replica = replica(number, applied % 1_000);
        prop_assert_eq!(round_trip(&replica), replica);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(unseal_any(KEY, &bytes).is_err());
        // Even behind a checksum that fits.
        let sealed = seal(Kind::Commit, KEY, &bytes);
        let _ = decode::<Commit>(KEY, &sealed, &mut Texts::default());
        let _ = AuditEntry::from_payload(&bytes, &mut Texts::default());
        let _ = Answer::from_payload(&bytes, &mut Texts::default());
        let _ = AllowedPartner::from_payload(&bytes, &mut Texts::default());
        let _ = Replica::from_payload(&bytes, &mut Texts::default());
        let _ = FederationSettings::from_payload(&bytes, &mut Texts::default());
        let _ = Role::from_payload(&bytes, &mut Texts::default());
    }
}

/// Behind a checksum that was made to fit, the hash still tells.
#[test]
fn no_byte_of_an_audit_entry_can_be_changed_and_the_checksum_mended() {
    let head = ChainHead { sequence: 6, hash: [9; 32] };
    let mut all = events(head);
    let fields = vec![FieldChange { field: "owner".into(), before: "a".into(), after: "b".into() }];
    let resource = "allowedPartners/contoso.com".to_owned();
    all.push(Event::Commit {
        changes: vec![ResourceChange { resource, verb: Verb::Update, fields }],
    });
    for event in all {
        let actor = Actor::service("because");
        let time = Timestamp::new(1_800_000_000, 1).unwrap();
        let entry = AuditEntry::after(head, time, actor, Revision::new(300), event);
        let payload = entry.to_payload();
        for at in 0..payload.len() {
            for flip in [1, 0x80] {
                let mut changed = payload.clone();
                changed[at] ^= flip;
                let read = AuditEntry::from_payload(&changed, &mut Texts::default());
                // What reads as the very same entry was not changed in anything that counts.
                if let Ok(read) = read.as_ref().map_err(drop)
                    && *read != entry
                {
                    assert!(
                        !read.is_intact() || read.head() != entry.head(),
                        "byte {at} of {read:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let sealed = encode(KEY, &partner(domain(1)));
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(unseal_any(KEY, &damaged), Err(Damage::Checksum), "bit {bit}");
    }
}

#[test]
fn a_value_cut_short_or_under_another_key_or_kind_is_found() {
    let sealed = encode(KEY, &partner(domain(1)));
    for length in 0..sealed.len() {
        assert!(unseal_any(KEY, &sealed[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(unseal_any(b"pcontoso.co", &sealed), Err(Damage::Checksum));
    assert_eq!(unseal(Kind::Settings, KEY, &sealed), Err(Damage::Kind(Kind::Partner as u8)));
}

#[test]
fn a_value_of_a_later_format_is_named_as_such() {
    let mut sealed = seal(Kind::Note, KEY, b"later");
    sealed[0] = FORMAT + 1;
    let crc = crc(KEY, FORMAT + 1, Kind::Note as u8, b"later");
    sealed[2..6].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(unseal_any(KEY, &sealed), Err(Damage::Format(FORMAT + 1)));
}

/// A field behind the others replaces theirs.
#[test]
fn a_payload_that_makes_no_sense_is_damage() {
    let payload = partner(domain(1)).to_payload();
    let read = |more: &[u8]| {
        AllowedPartner::from_payload(&[&payload, more].concat(), &mut Texts::default())
    };
    assert_eq!(read(&[]), Ok(partner(domain(1))));
    for (more, complaint) in [
        (&b"\x0a\x0bContoso.com"[..], "its stored form"),
        (b"\x0a\x03com", "its stored form"),
        (b"\x12\x01x", "uid has 1 bytes instead of 16"),
        (b"\x1a\x02\x18\x09", "no partner type 9"),
        (b"\x1a\x02\x18\x00", "no partner type 0"),
        (b"\x1a\x04\x18\x01\x38\x04", "no negotiation 4"),
        (b"\x1a\x06\x18\x01\x38\x01\x40\x00", "no negotiation 0"),
        (b"\x1a\x04\x12\x02-a", "its stored form"),
        (b"\x22\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a time is out of range"),
        (b"\x0a\x7f", "a field is cut short"),
        (b"\x0d\x01\x02\x03\x04", "field 1 is of no type that was written"),
        (b"\x08\x01", "a field is a number"),
        (b"\x42\x01a", "a field is no number"),
        (b"\x32\x01\xff", "a text is no UTF-8"),
    ] {
        let damage = read(more).unwrap_err().to_string();
        assert!(damage.contains(complaint), "{damage}");
    }
}

/// The format on the disk: were this to fail, stores written before could not be read any more.
#[test]
fn the_stored_form_is_what_it_always_was() {
    let partner = AllowedPartner { terms: Terms::default(), ..partner(domain(1)) };
    let hex: String = encode(KEY, &partner).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "0101388f11040a0e70312e6578616d706c652e636f6d1210123456789abc4ef0",
            "8123456789abcdef1a0a18013001380140014801220b0880c8ceb40d10aab4de",
            "752a0b0882c8ceb40d10aab4de753205616c6963653a03626f624001",
        )
    );
}

#[test]
fn texts_are_shared_between_values() {
    let mut texts = Texts::default();
    let [one, other] = [1, 2].map(|number| {
        let terms = Terms { owner: "carol".into(), ..Terms::default() };
        let sealed = encode(KEY, &AllowedPartner { terms, ..partner(domain(number)) });
        decode::<AllowedPartner>(KEY, &sealed, &mut texts).unwrap()
    });
    assert!(Arc::ptr_eq(&one.creator, &other.creator));
    assert!(Arc::ptr_eq(&one.updater, &other.updater));
    assert!(Arc::ptr_eq(&one.terms.owner, &other.terms.owner));
}

#[test]
fn the_passphrase_is_in_no_debug_output() {
    let settings = crate::store::conformance::model::settings(1);
    let message: settings::StoredSettings = message(&settings.to_payload()).unwrap();
    assert!(!format!("{message:?} {settings:?}").contains("correct horse"));
}

fn times() -> impl Strategy<Value = Timestamp> {
    (-4_000_000_000_i64..200_000_000_000, 0..1_000_000_000_i32)
        .prop_map(|(second, nanos)| Timestamp::new(second, nanos).unwrap())
}

fn names() -> impl Strategy<Value = DomainName> {
    "[a-z0-9]{1,20}(\\.[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?){0,3}\\.(com|example|xn--p1ai)"
        .prop_filter_map("not a domain", |name| DomainName::parse(&name).ok())
}

fn texts() -> impl Strategy<Value = Arc<str>> {
    ".{0,40}".prop_map(Arc::from)
}

fn negotiations() -> impl Strategy<Value = Negotiation> {
    select(vec![Negotiation::Required, Negotiation::Optional, Negotiation::NotSupported])
}

fn terms() -> impl Strategy<Value = Terms> {
    let types =
        vec![PartnerType::PublicUnverified, PartnerType::PublicVerified, PartnerType::Federated];
    let switches = any::<[bool; 3]>();
    let negotiation = (negotiations(), negotiations());
    let ends = (option::of(times()), option::of(times()));
    let labels = collection::btree_map("[a-z./]{1,9}", ".{0,9}", 0..5);
    let said = (".{0,60}", ".{0,20}", collection::vec(names(), 0..6), option::of(names()));
    (said, select(types), option::of(any::<i32>()), switches, negotiation, ends, labels).prop_map(
        |(said, partner_type, connection_limit, switches, negotiation, ends, labels)| {
            let (description, owner, additional_domains, proxy_fqdn) = said;
            let [keep_alive_enabled, dialback_enabled, suspended] = switches;
            let (tls_negotiation, sasl_negotiation) = negotiation;
            let (expire_time, review_time) = ends;
            Terms {
                description,
                additional_domains: additional_domains.into_iter().collect(),
                partner_type,
                proxy_fqdn,
                connection_limit,
                keep_alive_enabled,
                tls_negotiation,
                sasl_negotiation,
                dialback_enabled,
                suspended,
                expire_time,
                review_time,
                owner: owner.into(),
                labels: (&labels).into(),
            }
        },
    )
}

fn partners() -> impl Strategy<Value = AllowedPartner> {
    let who = (texts(), texts());
    let when = (times(), times(), option::of(times()));
    (names(), any::<u128>(), terms(), who, when, any::<u64>()).prop_map(
        |(domain, uid, terms, (creator, updater), when, revision)| {
            let (create_time, update_time, delete_time) = when;
            AllowedPartner {
                domain,
                uid: Uuid::from_u128(uid),
                terms,
                create_time,
                update_time,
                creator,
                updater,
                revision: Revision::new(revision),
                delete_time,
                expired: delete_time.is_some(),
            }
        },
    )
}

fn settings() -> impl Strategy<Value = FederationSettings> {
    use FederationMode::{AllowAllExceptSuspended, AllowListed, DenyAll, Unspecified};
    let modes = select(vec![Unspecified, AllowListed, DenyAll, AllowAllExceptSuspended]);
    let policies = select(vec![StalenessPolicy::Keep, StalenessPolicy::DenyAll]);
    let span = || (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n));
    let spans = (span(), span(), span(), span(), span());
    let limits = any::<(i32, i32, bool)>();
    let rest = (option::of(".{0,40}"), option::of(times()), texts(), any::<u64>());
    (modes, policies, spans, limits, rest).prop_map(
        |(mode, staleness_policy, spans, limits, (passphrase, update_time, updater, revision))| {
            FederationSettings {
                values: SettingsValues {
                    mode,
                    connection_limit: limits.0,
                    partner_connection_limit: limits.1,
                    keep_alive_interval: spans.0,
                    stream_establishment_timeout: spans.1,
                    stream_inactivity_timeout: spans.2,
                    subscription_refresh_interval: spans.3,
                    message_body_logging_enabled: limits.2,
                    staleness_lease: spans.4,
                    staleness_policy,
                    dialback_passphrase: passphrase.map(Passphrase::new),
                },
                update_time,
                updater,
                revision: Revision::new(revision),
            }
        },
    )
}

fn actors() -> impl Strategy<Value = Actor> {
    (texts(), texts(), texts(), texts()).prop_map(|(subject, issuer, request_id, reason)| Actor {
        subject,
        issuer,
        request_id,
        reason,
    })
}

fn changes() -> impl Strategy<Value = Change> {
    let of_partner = (option::of(partners().prop_map(Arc::new)), partners().prop_map(Arc::new))
        .prop_map(|(before, after)| Change::Partner { before, after });
    let of_settings = (settings().prop_map(Arc::new), settings().prop_map(Arc::new))
        .prop_map(|(before, after)| Change::Settings { before, after });
    let some_role = || roles().prop_map(Arc::new);
    let of_role = prop_oneof![
        some_role().prop_map(|role| (None, Some(role))),
        some_role().prop_map(|role| (Some(role), None)),
        (some_role(), some_role()).prop_map(|(before, after)| (Some(before), Some(after))),
    ]
    .prop_map(|(before, after)| Change::Role { before, after });
    let of_revocation = any::<[u64; 2]>().prop_map(|[id, revision]| {
        let some = || Some(Arc::new(revocation(id >> 34, Revision::new(revision))));
        let (before, after) = if revision % 2 == 0 { (some(), None) } else { (None, some()) };
        Change::Revocation { before, after }
    });
    prop_oneof![3 => of_partner, 1 => of_settings, 1 => of_role, 1 => of_revocation]
}

fn roles() -> impl Strategy<Value = Role> {
    let terms = (".{0,60}", any::<u32>(), option::of(any::<u16>()), collection::vec(names(), 0..4));
    ("[a-z0-9-]{1,63}", terms, any::<u64>()).prop_map(|(id, terms, revision)| {
        let (description, permissions, fields, scopes) = terms;
        let mut role = role(&id, Revision::new(revision));
        role.terms.description = description;
        role.terms.permissions = EnumSet::from_u32_truncated(permissions);
        role.terms.updatable_fields = fields.map(EnumSet::from_u16_truncated);
        role.terms.domain_scopes = scopes.into_iter().map(DomainScope::Below).collect();
        role
    })
}

fn commits() -> impl Strategy<Value = Commit> {
    (any::<u64>(), times(), actors(), collection::vec(changes(), 0..4)).prop_map(
        |(revision, time, actor, changes)| Commit {
            revision: Revision::new(revision),
            time,
            actor,
            changes,
        },
    )
}

fn audit_entries() -> impl Strategy<Value = AuditEntry> {
    let field = (".{0,9}", ".{0,9}", ".{0,9}").prop_map(|(field, before, after)| FieldChange {
        field,
        before,
        after,
    });
    let verbs = select(vec![Verb::Create, Verb::Update, Verb::Delete, Verb::Undelete]);
    let change = (".{0,20}", verbs, collection::vec(field, 0..4))
        .prop_map(|(resource, verb, fields)| ResourceChange { resource, verb, fields });
    let head = (0..u64::MAX, any::<[u8; 32]>());
    (head, times(), actors(), any::<u64>(), collection::vec(change, 0..4)).prop_map(
        |((sequence, hash), time, actor, revision, changes)| {
            let head = ChainHead { sequence, hash };
            let event = match events(head).get(usize::try_from(sequence % 10).unwrap()) {
                Some(event) => event.clone(),
                None => Event::Commit { changes },
            };
            AuditEntry::after(head, time, actor, Revision::new(revision), event)
        },
    )
}

fn answers() -> impl Strategy<Value = Answer> {
    let of_partners = collection::vec(option::of(partners().prop_map(Arc::new)), 0..4)
        .prop_map(AnswerResult::Partners);
    let of_settings = settings().prop_map(|settings| AnswerResult::Settings(Arc::new(settings)));
    let key = (texts(), texts(), any::<u128>()).prop_map(|(issuer, subject, id)| RequestKey {
        issuer,
        subject,
        id: Uuid::from_u128(id),
    });
    let of_role = option::of(roles().prop_map(Arc::new)).prop_map(AnswerResult::Role);
    let of_revocation = option::of(any::<u16>()).prop_map(|id| {
        let revocation = id.map(|id| Arc::new(revocation(id.into(), Revision::new(1))));
        AnswerResult::Revocation(revocation)
    });
    let of_restore = any::<[u64; 4]>().prop_map(|[created, updated, deleted, unchanged]| {
        AnswerResult::Restored(Restored { created, updated, deleted, unchanged })
    });
    let result = prop_oneof![of_partners, of_settings, of_role, of_revocation, of_restore];
    (key, any::<[u8; 32]>(), times(), any::<u64>(), result).prop_map(
        |(key, fingerprint, expire_time, revision, result)| Answer {
            key,
            fingerprint,
            expire_time,
            revision: Revision::new(revision),
            result,
        },
    )
}
