//! The server's program: parse, start to log, run.

use std::{path::Path, process::ExitCode, sync::Arc};

use clap::Parser;
use partnerd::{
    commands::Cli,
    store::{
        Store, StoreError,
        sled::{SledOptions, SledStore},
    },
};

/// A million partners are ten million small pieces of memory. The system's allocator keeps what
/// a start needs for a while, and takes a half more in the end (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run(open_store)
}

/// The only place that names a store.
fn open_store(folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SledStore::open(folder, &SledOptions::default())?))
}
