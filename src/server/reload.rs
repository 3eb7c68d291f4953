//! Notices changed files, such as renewed certificates and rotated keys, and has them read anew.

use std::{fmt, fs, io, path::PathBuf, sync::Arc, time::SystemTime};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::Shutdown;

/// Files, and what to do when one of them has changed.
pub struct Reload {
    name: &'static str,
    files: Vec<PathBuf>,
    load: Load,
    seen: Vec<Stamp>,
}

type Load = Box<dyn FnMut() -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// What tells a file from its successor; `None` for one that is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Reload {
    /// `load` is called after a change of `files`; when it fails, what was loaded before must stay
    /// in force. `name` tells people what it is: `TLS certificate`.
    pub fn new<E>(
        name: &'static str,
        files: Vec<PathBuf>,
        mut load: impl FnMut() -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let seen = stamps(&files);
        Self { name, files, load: Box::new(move || load().map_err(Into::into)), seen }
    }

    /// Loads if a file has changed since the last look, or if told to in any case.
    ///
    /// A failure is tried again at the next look: until then a key that was taken out is believed.
    fn look(&mut self, in_any_case: bool) {
        let now = stamps(&self.files);
        if now == self.seen && !in_any_case {
            return;
        }
        match (self.load)() {
            Ok(()) => {
                self.seen = now;
                tracing::info!("read anew: {}", self.name);
            }
            Err(error) => {
                tracing::error!(%error, "cannot read anew, the old stays in force: {}", self.name);
            }
        }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("name", &self.name).field("files", &self.files).finish()
    }
}

/// Looks at the files every `period`, and reads all of them anew whenever `now` is notified,
/// until the server drains.
pub async fn reload_on_change(
    mut reloads: Vec<Reload>,
    period: std::time::Duration,
    now: Arc<Notify>,
    shutdown: Shutdown,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let in_any_case = tokio::select! {
            _ = ticks.tick() => false,
            () = now.notified() => true,
            () = shutdown.draining() => return,
        };
        let look = move || {
            reloads.iter_mut().for_each(|reload| reload.look(in_any_case));
            reloads
        };
        match spawn_blocking(look).await {
            Ok(looked) => reloads = looked,
            Err(error) => {
                tracing::error!(%error, "files are no longer read anew; restart the server");
                return;
            }
        }
    }
}

/// Notifies whenever the process gets SIGHUP.
///
/// # Errors
/// If the signal cannot be listened to.
pub fn on_hangup(now: Arc<Notify>) -> io::Result<impl Future<Output = ()> + Send> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            now.notify_one();
        }
    })
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn counting(files: Vec<PathBuf>) -> (Reload, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let load = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        };
        (Reload::new("test", files, load), count)
    }

    #[test]
    fn a_file_is_read_anew_when_it_changes_or_comes_or_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        fs::write(&file, "one").unwrap();
        let (mut reload, count) = counting(vec![file.clone()]);
        let mut looked = || {
            reload.look(false);
            count.load(Ordering::Relaxed)
        };

        assert_eq!(looked(), 0);
        fs::write(&file, "longer").unwrap();
        assert_eq!((looked(), looked()), (1, 1));
        fs::remove_file(&file).unwrap();
        assert_eq!((looked(), looked()), (2, 2));
        fs::write(&file, "longer").unwrap();
        assert_eq!((looked(), looked()), (3, 3));
    }

    #[tokio::test]
    async fn a_notification_reads_everything_anew() {
        let (reload, count) = counting(Vec::new());
        let (trigger, shutdown) = super::super::shutdown();
        let now = Arc::new(Notify::new());
        let hour = std::time::Duration::from_secs(3600);
        let task = tokio::spawn(reload_on_change(vec![reload], hour, now.clone(), shutdown));
        now.notify_one();
        while count.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        trigger.drain();
        task.await.unwrap();
    }
}
