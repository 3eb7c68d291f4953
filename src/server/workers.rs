//! The threads that serve connections.
//!
//! Each has a runtime of its own, on which a connection stays from its first byte to its last: no
//! other thread ever takes a part of its work, so none of it is shared and nothing has to be woken
//! elsewhere. docs/performance.md has what that gives. A thread that computes for long would keep
//! the connections of its own waiting, so what takes long is done on threads for blocking work.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinSet,
};

/// The threads, until they are dropped. What runs on them then is cut off.
#[derive(Debug)]
pub(super) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    load: Arc<AtomicUsize>,
    /// Ends the thread when it is dropped.
    _end: oneshot::Sender<()>,
}

/// A connection that a worker has to care for.
struct Burden(Arc<AtomicUsize>);

impl Workers {
    /// Starts `count` threads; with none, connections are served where they are accepted.
    ///
    /// # Errors
    /// If the system does not let the process start them.
    pub fn start(count: usize) -> io::Result<Self> {
        (0..count).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// Runs `connection` on the thread that has the fewest.
    pub fn spawn(
        &self,
        connections: &mut JoinSet<()>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let least = self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        let Some(worker) = least else {
            connections.spawn(connection);
            return;
        };
        let burden = Burden::on(&worker.load);
        let task = async move {
            connection.await;
            drop(burden);
        };
        connections.spawn_on(task, &worker.runtime);
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // An error is the end, too: the sender is never used but dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), _end: end })
    }
}

impl Burden {
    fn on(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
