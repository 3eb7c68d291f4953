//! What a process takes: memory, processor time, disk. Read from Linux's `/proc`.

use std::{
    collections::HashMap, ffi::OsString, fs, os::unix::fs::MetadataExt as _, path::Path,
    time::Duration,
};

/// What a process takes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Resident memory, in bytes.
    pub resident: u64,
    /// The most resident memory since it started, in bytes.
    pub peak: u64,
}

impl Footprint {
    /// Of the process with this id.
    pub fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.expect("every process has it") * 1_024
        };
        Self { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }
}

/// The processor time that each thread of a process has used so far.
#[derive(Debug)]
pub struct Threads(HashMap<OsString, Duration>);

impl Threads {
    /// Of the process with this id.
    pub fn of(process: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
        let used = tasks.flatten().filter_map(|task| {
            // A thread that has just ended has no file any more.
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanos = text.split_whitespace().next()?.parse().ok()?;
            Some((task.file_name(), Duration::from_nanos(nanos)))
        });
        Self(used.collect())
    }

    /// What they used since `before`. A thread that ended meanwhile had been idle for long.
    pub fn since(&self, before: &Self) -> Duration {
        let used = |(id, now): (&OsString, &Duration)| {
            now.saturating_sub(before.0.get(id).copied().unwrap_or_default())
        };
        self.0.iter().map(used).sum()
    }
}

/// The bytes that a folder takes on disk.
pub fn disk(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
