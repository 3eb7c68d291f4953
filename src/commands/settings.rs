//! The flags that set configuration keys, the same for every command that reads a configuration.

use std::path::PathBuf;

use clap::Args;

use crate::config::{ConfigError, Flag, Layers};

/// Where the configuration is, and what the command line says otherwise.
#[derive(Args, Clone, Debug)]
pub(super) struct SettingsArgs {
    /// The configuration file. Without it, flags and PARTNERD_* variables say everything
    #[arg(long, value_name = "FILE", env = "PARTNERD_CONFIG")]
    pub config: Option<PathBuf>,

    /// An address and port to listen on. Repeatable
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<String>,

    /// The folder for the data; with --dev the folder for everything [with --dev: ./partnerd-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,

    /// The form of log lines: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Which log lines to write, such as info,partnerd=debug
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,

    /// Set any configuration key, such as limits.max_connections=500. Repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

impl SettingsArgs {
    /// The configuration in layers: these flags, the environment, the file.
    pub fn layers(&self) -> Result<Layers, ConfigError> {
        let base = match &self.config {
            Some(path) => Layers::with_file(path)?,
            None => Layers::without_file(),
        };
        Ok(base.process_environment()?.flags(self.flags()))
    }

    /// Everything by name: a new flag fails to compile until it sets its key.
    fn flags(&self) -> Vec<Flag> {
        let Self { config: _, listen, data_dir, log_format, log_filter, set } = self;
        let listen = (!listen.is_empty()).then(|| listen.join(","));
        let named = [
            ("--listen", "listen", &listen),
            ("--data-dir", "data_dir", data_dir),
            ("--log-format", "log.format", log_format),
            ("--log-filter", "log.filter", log_filter),
        ];
        let named = named.into_iter().filter_map(|(flag, key, value)| {
            Some(Flag { flag, key: key.to_owned(), value: value.clone()? })
        });
        let set = set.iter().cloned().map(|(key, value)| Flag { flag: "--set", key, value });
        set.chain(named).collect()
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
