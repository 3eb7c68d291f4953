//! Room for connections: so many in all, and so many from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{auth::failures::network, config::Limits};

/// Counts connections. Its lock is taken when one begins or ends, never for a call.
#[derive(Debug)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    /// 0 for as many as there is room for.
    most_per_network: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    network: IpAddr,
    _free: OwnedSemaphorePermit,
}

/// The limit that a connection is closed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full(pub &'static str);

impl Room {
    pub fn new(limits: &Limits) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limits.max_connections)),
            most_per_network: limits.max_connections_per_address,
            open: Mutex::default(),
        }
    }

    /// A place for a connection from this address.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let network = network(address);
        let free = self.free.clone().try_acquire_owned();
        let free = free.map_err(|_| Full("limits.max_connections"))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_network = open.entry(network).or_default();
        if self.most_per_network > 0 && *of_network >= self.most_per_network {
            return Err(Full("limits.max_connections_per_address"));
        }
        *of_network += 1;
        Ok(Place { room: Arc::clone(self), network, _free: free })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.room.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_network) = open.get_mut(&self.network) {
            *of_network -= 1;
            if *of_network == 0 {
                open.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_the_others_have_theirs() {
        let limits =
            Limits { max_connections: 3, max_connections_per_address: 2, ..Limits::default() };
        let room = Arc::new(Room::new(&limits));
        let take = |address: &str| room.take(address.parse().unwrap());
        let per_address = Full("limits.max_connections_per_address");
        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").unwrap_err(), per_address);
        let other = take("192.0.2.2").unwrap();
        assert_eq!(take("192.0.2.3").unwrap_err(), Full("limits.max_connections"));
        drop(other);
        assert_eq!(take("192.0.2.1").unwrap_err(), per_address);
        drop(first);
        take("192.0.2.1").unwrap();
    }

    #[test]
    fn a_whole_network_of_ipv6_is_one_address_and_without_a_limit_all_room_is_anybodys() {
        let limits =
            Limits { max_connections: 8, max_connections_per_address: 1, ..Limits::default() };
        let room = Arc::new(Room::new(&limits));
        let _held = room.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(room.take("2001:db8::2".parse().unwrap()).is_err());

        let limits = Limits { max_connections_per_address: 0, ..limits };
        let room = Arc::new(Room::new(&limits));
        let held: Vec<_> = (0..8).map(|_| room.take("192.0.2.1".parse().unwrap())).collect();
        assert!(held.iter().all(Result::is_ok));
        drop(held);
        assert!(room.open.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }
}
