//! The keys of one issuer: what its sources last gave, as one set that is swapped whole.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use jsonwebtoken::Algorithm;

use super::{
    KeySet, VerificationKey,
    source::{load_file, read_key_file},
};
use crate::auth::issuer::KeySource;

/// Every source of an issuer, with the keys it last gave, and all of them as one set.
#[derive(Debug)]
pub(in crate::auth) struct KeyRing {
    sources: Vec<KeySource>,
    accepted: Vec<Algorithm>,
    parts: Mutex<Vec<Part>>,
    current: ArcSwap<KeySet>,
}

/// What one source gave; `None` for a source that has not been reached yet.
type Part = Option<Vec<Arc<VerificationKey>>>;

impl KeyRing {
    /// Reads the files among `sources`. Those online have given nothing yet.
    ///
    /// # Errors
    /// The first key that is unusable: one line that names the file and the remedy.
    pub fn load(sources: Vec<KeySource>, accepted: Vec<Algorithm>) -> Result<Self, String> {
        let parts = sources
            .iter()
            .map(|source| read(source, &accepted))
            .collect::<Result<Vec<Part>, _>>()?;
        all_different(&sources, &parts)?;
        let current = ArcSwap::from_pointee(union(&parts));
        Ok(Self { sources, accepted, parts: Mutex::new(parts), current })
    }

    /// The keys in force.
    pub fn current(&self) -> Guard<Arc<KeySet>> {
        self.current.load()
    }

    /// Reads the files again and puts what they hold into force; gives whether anything is new.
    /// What came from online sources stays.
    ///
    /// # Errors
    /// As [`load`](Self::load); the keys stay as they were.
    pub fn reload_files(&self) -> Result<bool, String> {
        let read: Vec<_> = self
            .sources
            .iter()
            .map(|source| read(source, &self.accepted))
            .collect::<Result<_, _>>()?;
        all_different(&self.sources, &read)?;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.sources.iter().zip(parts.iter_mut()).zip(read);
        for ((_, part), read) in files.filter(|((source, _), _)| source.key_file().is_some()) {
            *part = read;
        }
        Ok(self.publish(&parts))
    }

    /// Puts what an online source has given into force, in place of what it gave before; gives
    /// whether anything is new. `index` is the place of the source in the configuration.
    pub fn put(&self, index: usize, keys: Vec<VerificationKey>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get_mut(index) {
            *part = Some(keys.into_iter().map(Arc::new).collect());
        }
        self.publish(&parts)
    }

    /// A set that is the same as before stays the same object: what was verified with it remains so.
    fn publish(&self, parts: &[Part]) -> bool {
        let new = union(parts);
        let changed = !self.current.load().is_same(&new);
        if changed {
            self.current.store(Arc::new(new));
        }
        changed
    }
}

fn read(source: &KeySource, accepted: &[Algorithm]) -> Result<Part, String> {
    let Some(path) = source.key_file() else { return Ok(None) };
    let content = read_key_file(path)?;
    let keys = load_file(source, &content, accepted).map_err(|problem| in_file(path, &problem))?;
    Ok(Some(keys.into_iter().map(Arc::new).collect()))
}

/// In files, a key id that is there twice is somebody's mistake, and he is there to be told.
fn all_different(sources: &[KeySource], parts: &[Part]) -> Result<(), String> {
    let mut seen = Vec::<&str>::new();
    for (source, part) in sources.iter().zip(parts) {
        for key in part.iter().flatten() {
            if seen.contains(&&*key.id) {
                let path = source.key_file().unwrap_or_else(|| Path::new(""));
                let problem =
                    format!("the key id `{}` is there twice; give every key its own `kid`", key.id);
                return Err(in_file(path, &problem));
            }
            seen.push(&key.id);
        }
    }
    Ok(())
}

/// All keys; of two with the same id, the one whose source is named first.
fn union(parts: &[Part]) -> KeySet {
    let mut keys = Vec::<Arc<VerificationKey>>::new();
    for key in parts.iter().flatten().flatten() {
        if keys.iter().all(|other| other.id != key.id) {
            keys.push(Arc::clone(key));
        }
    }
    KeySet { keys, missing: parts.iter().any(Option::is_none) }
}

fn in_file(path: &Path, problem: &str) -> String {
    format!("key file {}: {problem}", path.display())
}
