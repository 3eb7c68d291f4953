//! Revocations: tokens, subjects and keys that are no longer believed, whatever their signature.
//!
//! A [`Revocations`] is one immutable view of all of them, cheap to copy and to change a copy of,
//! so that a commit can publish a new one while the old is still being read.

use std::{fmt, sync::Arc};

use imbl::{HashMap, OrdMap};
use jiff::Timestamp;
use uuid::Uuid;

use super::{revision::Revision, violation::Violation};

/// The most characters of an issuer, a subject, a token's id or a key's id.
pub const MAX_IDENTIFIER: usize = 256;

/// What is no longer believed. Every part is compared octet by octet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One token.
    Token {
        /// Its `iss`.
        issuer: Arc<str>,
        /// Its `jti`.
        token_id: Arc<str>,
    },
    /// Every token of one subject, present and future.
    Subject {
        /// Their `iss`.
        issuer: Arc<str>,
        /// Their `sub`.
        subject: Arc<str>,
    },
    /// Every token that one key has signed; or one client certificate that stands for a subject.
    Key {
        /// The issuer whose key it is.
        issuer: Arc<str>,
        /// The key's `kid`; of a certificate, its thumbprint as `x5t#S256` has it (RFC 8705).
        key_id: Arc<str>,
    },
}

/// Word that something is no longer believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its own id.
    pub id: Uuid,
    /// What is no longer believed.
    pub target: Target,
    /// Why, in words; empty if nobody said.
    pub reason: Arc<str>,
    /// The subject that revoked it.
    pub creator: Arc<str>,
    /// When it was revoked.
    pub create_time: Timestamp,
    /// When the revocation ends; `None` means never.
    pub expire_time: Option<Timestamp>,
    /// The revision of its commit.
    pub revision: Revision,
}

/// What a caller showed, as far as it can be revoked.
#[derive(Clone, Copy, Debug)]
pub struct Credential<'a> {
    /// The issuer.
    pub issuer: &'a Arc<str>,
    /// The subject.
    pub subject: &'a Arc<str>,
    /// The token's `jti`, if it has one.
    pub token_id: Option<&'a Arc<str>>,
    /// The key that signed it.
    pub key_id: &'a Arc<str>,
}

/// All revocations at one time.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    by_id: OrdMap<Uuid, Arc<Revocation>>,
    by_target: HashMap<Target, Vec<Arc<Revocation>>>,
}

impl Target {
    /// The issuer it is about.
    pub const fn issuer(&self) -> &Arc<str> {
        match self {
            Self::Token { issuer, .. }
            | Self::Subject { issuer, .. }
            | Self::Key { issuer, .. } => issuer,
        }
    }

    /// The rules that it breaks: each part has 1 to [`MAX_IDENTIFIER`] characters and no control
    /// characters, since a token with any other is never believed.
    pub fn violations(&self) -> Vec<Violation> {
        let (name, value) = match self {
            Self::Token { token_id, .. } => ("token_id", token_id),
            Self::Subject { subject, .. } => ("subject", subject),
            Self::Key { key_id, .. } => ("key_id", key_id),
        };
        [("issuer", self.issuer()), (name, value)]
            .into_iter()
            .filter(|(_, value)| !is_identifier(value))
            .map(|(field, _)| {
                Violation::new(
                    field,
                    format!("give 1 to {MAX_IDENTIFIER} characters without control characters"),
                )
            })
            .collect()
    }
}

impl fmt::Display for Target {
    /// In words, for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { issuer, token_id } => write!(f, "the token {token_id} of {issuer}"),
            Self::Subject { issuer, subject } => write!(f, "the subject {subject} of {issuer}"),
            Self::Key { issuer, key_id } => write!(f, "the key {key_id} of {issuer}"),
        }
    }
}

impl Revocation {
    /// Whether it still counts at the time `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.expire_time.is_none_or(|end| now < end)
    }
}

impl Revocations {
    /// Adds a revocation, or replaces the one with the same id.
    pub fn insert(&mut self, revocation: Arc<Revocation>) {
        self.remove(revocation.id);
        self.by_target.entry(revocation.target.clone()).or_default().push(Arc::clone(&revocation));
        self.by_id.insert(revocation.id, revocation);
    }

    /// Takes a revocation back; what it was about is believed again.
    pub fn remove(&mut self, id: Uuid) -> Option<Arc<Revocation>> {
        let removed = self.by_id.remove(&id)?;
        if let Some(about) = self.by_target.get_mut(&removed.target) {
            about.retain(|other| other.id != id);
            if about.is_empty() {
                self.by_target.remove(&removed.target);
            }
        }
        Some(removed)
    }

    /// The revocation with this id.
    pub fn get(&self, id: Uuid) -> Option<&Arc<Revocation>> {
        self.by_id.get(&id)
    }

    /// Every revocation, expired ones included, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Revocation>> {
        self.by_id.values()
    }

    /// How many there are, expired ones included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Those about exactly this target, expired ones included.
    pub fn of(&self, target: &Target) -> &[Arc<Revocation>] {
        self.by_target.get(target).map_or(&[], Vec::as_slice)
    }

    /// A revocation that is in force at the time `now` and is about this credential: about its
    /// key, its subject or the token itself.
    pub fn find(&self, credential: Credential<'_>, now: Timestamp) -> Option<&Arc<Revocation>> {
        if self.is_empty() {
            return None;
        }
        let Credential { issuer, subject, token_id, key_id } = credential;
        let issuer = || Arc::clone(issuer);
        let key = Target::Key { issuer: issuer(), key_id: Arc::clone(key_id) };
        let subject = Target::Subject { issuer: issuer(), subject: Arc::clone(subject) };
        let token = token_id.map(|id| Target::Token { issuer: issuer(), token_id: Arc::clone(id) });
        [Some(key), Some(subject), token]
            .iter()
            .flatten()
            .flat_map(|target| self.of(target))
            .find(|revocation| revocation.is_in_force(now))
    }
}

impl FromIterator<Arc<Revocation>> for Revocations {
    fn from_iter<I: IntoIterator<Item = Arc<Revocation>>>(revocations: I) -> Self {
        let mut all = Self::default();
        revocations.into_iter().for_each(|revocation| all.insert(revocation));
        all
    }
}

/// Whether a text can be an issuer, a subject, or the id of a token or key.
pub fn is_identifier(text: &str) -> bool {
    (1..=MAX_IDENTIFIER).contains(&text.chars().take(MAX_IDENTIFIER + 1).count())
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn revocation(id: u128, target: Target, expire_time: Option<Timestamp>) -> Arc<Revocation> {
        Arc::new(Revocation {
            id: Uuid::from_u128(id),
            target,
            reason: "".into(),
            creator: "admin".into(),
            create_time: at(NOW),
            expire_time,
            revision: Revision::new(1),
        })
    }

    fn target(kind: &str, issuer: &str, id: &str) -> Target {
        let (issuer, id) = (issuer.into(), id.into());
        match kind {
            "token" => Target::Token { issuer, token_id: id },
            "subject" => Target::Subject { issuer, subject: id },
            _ => Target::Key { issuer, key_id: id },
        }
    }

    /// Whether `iss` one, `sub` alice, `jti` t-1, `kid` k-1 is revoked.
    fn revoked(all: &Revocations, now: Timestamp) -> bool {
        let [issuer, subject, token_id, key_id] =
            ["one", "alice", "t-1", "k-1"].map(Arc::<str>::from);
        let credential = Credential {
            issuer: &issuer,
            subject: &subject,
            token_id: Some(&token_id),
            key_id: &key_id,
        };
        all.find(credential, now).is_some()
    }

    #[test]
    fn a_credential_is_revoked_by_its_key_its_subject_or_its_token_and_nothing_else() {
        for (kind, issuer, id, expected) in [
            ("token", "one", "t-1", true),
            ("subject", "one", "alice", true),
            ("key", "one", "k-1", true),
            ("token", "two", "t-1", false),
            ("subject", "two", "alice", false),
            ("key", "two", "k-1", false),
            ("token", "one", "alice", false),
            ("subject", "one", "Alice", false),
            ("key", "one", "t-1", false),
        ] {
            let all: Revocations =
                [revocation(1, target(kind, issuer, id), None)].into_iter().collect();
            assert_eq!(revoked(&all, at(NOW)), expected, "{kind} {issuer} {id}");
        }
    }

    #[test]
    fn a_token_without_an_id_is_revoked_by_no_token_id() {
        let all: Revocations =
            [revocation(1, target("token", "one", ""), None)].into_iter().collect();
        let [issuer, subject, key_id] = ["one", "alice", "k-1"].map(Arc::<str>::from);
        let credential =
            Credential { issuer: &issuer, subject: &subject, token_id: None, key_id: &key_id };
        assert!(all.find(credential, at(NOW)).is_none());
    }

    #[test]
    fn a_revocation_ends_at_its_expiry_and_another_of_the_same_target_goes_on() {
        let short = revocation(1, target("subject", "one", "alice"), Some(at(NOW + 10)));
        let mut all: Revocations = [short].into_iter().collect();
        assert!(revoked(&all, at(NOW + 9)));
        assert!(!revoked(&all, at(NOW + 10)));
        all.insert(revocation(2, target("subject", "one", "alice"), None));
        assert!(revoked(&all, at(NOW + 10)));
    }

    #[test]
    fn what_is_taken_back_is_believed_again_and_older_views_stay_as_they_are() {
        let mut all: Revocations =
            [revocation(1, target("token", "one", "t-1"), None)].into_iter().collect();
        let before = all.clone();
        assert_eq!(all.remove(Uuid::from_u128(1)).map(|gone| gone.id), Some(Uuid::from_u128(1)));
        assert!(!revoked(&all, at(NOW)) && all.is_empty());
        assert!(revoked(&before, at(NOW)) && before.len() == 1);
        assert!(all.remove(Uuid::from_u128(1)).is_none());
    }

    #[test]
    fn a_replaced_revocation_is_about_its_new_target_alone() {
        let mut all: Revocations =
            [revocation(1, target("token", "one", "t-1"), None)].into_iter().collect();
        all.insert(revocation(1, target("token", "one", "t-2"), None));
        assert!(!revoked(&all, at(NOW)));
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn each_part_of_a_target_has_the_length_and_characters_of_a_claim() {
        let fields = |target: Target| {
            target.violations().into_iter().map(|violation| violation.field).collect::<Vec<_>>()
        };
        assert!(fields(target("key", "one", &"ä".repeat(256))).is_empty());
        assert_eq!(fields(target("key", "", &"k".repeat(257))), ["issuer", "key_id"]);
        assert_eq!(fields(target("token", "one", "")), ["token_id"]);
        assert_eq!(fields(target("subject", "one", "a\nb")), ["subject"]);
    }
}
