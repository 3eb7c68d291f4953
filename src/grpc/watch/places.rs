//! How many streams there may be, together and for one subject.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use tonic::Status;

use crate::{auth::Caller, grpc::status};

/// Counts the streams.
#[derive(Debug)]
pub(super) struct Places(Arc<Room>);

#[derive(Debug)]
struct Room {
    most: usize,
    most_per_subject: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_subject: HashMap<Subject, usize>,
}

/// A subject and its issuer.
type Subject = (Arc<str>, Arc<str>);

/// The place of one stream, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    subject: Subject,
}

impl Places {
    /// Room for so many streams, and for so many of one subject.
    pub fn new(most: usize, most_per_subject: usize) -> Self {
        Self(Arc::new(Room { most, most_per_subject, taken: Mutex::default() }))
    }

    /// A place for one more stream of `caller`.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if there is none.
    pub fn take(&self, caller: &Caller) -> Result<Place, Status> {
        let room = &self.0;
        let subject = (Arc::clone(&caller.subject), Arc::clone(&caller.issuer));
        let mut taken = room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= room.most {
            return Err(status::too_many_streams("limits.max_watch_streams", room.most));
        }
        let of_subject = taken.by_subject.entry(subject.clone()).or_default();
        if *of_subject >= room.most_per_subject {
            let limit = "limits.max_watch_streams_per_subject";
            return Err(status::too_many_streams(limit, room.most_per_subject));
        }
        *of_subject += 1;
        taken.all += 1;
        Ok(Place { room: Arc::clone(room), subject })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Entry::Occupied(mut of_subject) = taken.by_subject.entry(self.subject.clone()) {
            *of_subject.get_mut() -= 1;
            if *of_subject.get() == 0 {
                of_subject.remove();
            }
        }
    }
}
