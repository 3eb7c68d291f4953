//! `partnerd serve`: from the command line to a server, and to its end.

use std::{env, net::SocketAddr, path::Path, sync::Arc};

use clap::Args;
use jiff::Timestamp;
use tokio::{net::TcpListener, runtime};

use super::settings::SettingsArgs;
use crate::{
    config::{Config, ConfigError, Development},
    dev::{self, DevFolder},
    server::{Assembly, StartError, listen, on_signals, shutdown},
    store::{Store, StoreError},
    systemd, telemetry,
};

/// Opens the store in a folder. Named by `main`, so that nothing else knows which store it is.
pub type OpenStore = fn(&Path) -> Result<Arc<dyn Store>, StoreError>;

#[derive(Args, Clone, Debug)]
pub(super) struct ServeArgs {
    /// Try the service out: on loopback, with certificates, keys and a token of its own
    #[arg(long, conflicts_with = "config")]
    dev: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

impl ServeArgs {
    /// Serves until the process is told to stop.
    pub fn run(self, open_store: OpenStore) -> Result<(), StartError> {
        let (config, folder) = self.configuration()?;
        telemetry::init(&config.log);
        let store = open_store(&config.data_dir)?;
        let addresses = config.listen.clone();
        let assembly = Assembly::new(config, store)?;
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(serve(assembly, addresses, folder));
        // What still runs now was cut off on purpose.
        runtime.shutdown_background();
        outcome
    }

    fn configuration(&self) -> Result<(Config, Option<DevFolder>), StartError> {
        let layers = self.settings.layers()?;
        if !self.dev {
            let config = Config::load(&layers).map_err(|error| self.with_hint(error))?;
            return Ok((config, None));
        }
        let path = layers.text("data_dir").unwrap_or_else(|| dev::DEFAULT_PATH.to_owned());
        let folder = DevFolder::open_or_create(Path::new(&path), Timestamp::now())?;
        let development = Development {
            data_dir: folder.store_path(),
            tls: folder.tls_config(),
            issuer: folder.issuer_config(),
        };
        Ok((Config::load_dev(&layers, development)?, Some(folder)))
    }

    /// Somebody who gave no file most likely has none yet.
    fn with_hint(&self, mut error: ConfigError) -> ConfigError {
        if self.settings.config.is_none() {
            let hint = "no configuration file was given; name one with --config, or try --dev";
            error.problems.push(hint.to_owned());
        }
        error
    }
}

async fn serve(
    mut assembly: Assembly,
    addresses: Vec<SocketAddr>,
    folder: Option<DevFolder>,
) -> Result<(), StartError> {
    let listeners = listen(&addresses).await?;
    for listener in &listeners {
        tracing::info!(address = %listener.local_addr()?, "listening");
    }
    if let Some(folder) = folder {
        introduce(&folder, &listeners)?;
        assembly = assembly.with_development(folder);
    }
    let (trigger, shutdown) = shutdown();
    let signals = tokio::spawn(on_signals(trigger)?);
    let alive = tokio::spawn(systemd::stay_alive());
    systemd::ready();
    let outcome = assembly.serve(listeners, shutdown).await;
    systemd::stopping();
    alive.abort();
    signals.abort();
    tracing::info!("stopped");
    outcome
}

/// Tells `partnerctl` where the server is, and the person what to do next.
fn introduce(folder: &DevFolder, listeners: &[TcpListener]) -> Result<(), StartError> {
    let Some(listener) = listeners.first() else { return Ok(()) };
    let endpoint = format!("https://{}", listener.local_addr()?);
    folder.write_client_config(&endpoint)?;
    println!("partnerd listens on {endpoint}, for development only");
    println!("  its data, keys and tokens are in {}", folder.path().display());
    println!("  try: {} get", partnerctl(folder, &endpoint));
    Ok(())
}

/// How to run `partnerctl` against this folder from where the person most likely is.
fn partnerctl(folder: &DevFolder, endpoint: &str) -> String {
    let executable = env::current_exe().unwrap_or_default();
    let built_by_cargo = |profile| executable.parent().is_some_and(|dir| dir.ends_with(profile));
    let command = match (built_by_cargo("target/release"), built_by_cargo("target/debug")) {
        (false, false) => "partnerctl".to_owned(),
        _ if !Path::new("Cargo.toml").exists() => {
            executable.with_file_name("partnerctl").display().to_string()
        }
        (true, _) => "cargo run --release --bin partnerctl --".to_owned(),
        (_, true) => "cargo run --bin partnerctl --".to_owned(),
    };
    let usual = Path::new(dev::DEFAULT_PATH).canonicalize();
    if usual.is_ok_and(|usual| usual == folder.path()) {
        return command;
    }
    let file = |name| folder.path().join(name).display().to_string();
    format!(
        "PARTNERCTL_ENDPOINT={endpoint} PARTNERCTL_CA_FILE={} PARTNERCTL_TOKEN_FILE={} {command}",
        file("ca.pem"),
        file("admin.token")
    )
}
