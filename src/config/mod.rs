//! The server's configuration: flags before environment before file before defaults.
//!
//! A [`Config`] exists only whole and checked. Whatever is wrong is told in one line each, which
//! names the key as the person wrote it and says how to mend it. `docs/configuration.md` lists
//! every key; a test holds the two together.

mod auth;
mod check;
mod layers;
mod reader;
#[cfg(test)]
mod tests;
mod value;

use std::{
    fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, thread::available_parallelism,
    time::Duration,
};

use crate::{
    auth::issuer::IssuerConfig,
    domain::DomainName,
    tls::{ClientAuth, TlsConfig},
};

use self::reader::Reader;
pub use self::{
    auth::Auth,
    layers::{ENVIRONMENT_PREFIX, Flag, Layers},
    reader::Key,
    value::{Size, Span},
};

/// Everything that the server is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses to listen on. At least one.
    pub listen: Vec<SocketAddr>,
    /// Where the embedded store keeps its data.
    pub data_dir: PathBuf,
    /// Whether this is a development server: loopback only, its own keys.
    pub dev: bool,
    /// Its certificate; `None` is plain text, on loopback only.
    pub tls: Option<TlsConfig>,
    /// Whose tokens are accepted.
    pub auth: Auth,
    /// How long the history is kept.
    pub history: History,
    /// How long the audit is kept.
    pub audit: Audit,
    /// What no client may go beyond.
    pub limits: Limits,
    /// How it logs.
    pub log: Log,
    /// What it serves.
    pub server: Server,
    /// What it expects of those who report on XMPP servers.
    pub replicas: Replicas,
}

/// How long the history is kept. A commit stays while it is within both bounds.
#[derive(Clone, Debug)]
pub struct History {
    /// A commit older than this is removed.
    pub max_age: Duration,
    /// Of more commits than this the oldest are removed.
    pub max_commits: u64,
}

/// How long the audit is kept. An entry stays while it is within both bounds, where there are any.
#[derive(Clone, Debug)]
pub struct Audit {
    /// An entry older than this is removed; `None` for never.
    pub max_age: Option<Duration>,
    /// Of more entries than this the oldest are removed; `None` for never.
    pub max_entries: Option<u64>,
}

/// What a development server brings with it in place of a configuration file.
#[derive(Clone, Debug)]
pub struct Development {
    /// Where its store keeps its data.
    pub data_dir: PathBuf,
    /// Its own certificate.
    pub tls: TlsConfig,
    /// Itself, as an issuer.
    pub issuer: IssuerConfig,
}

/// What no client may go beyond. `docs/configuration.md` has units, defaults and ranges.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest request message, in bytes.
    pub max_message_bytes: usize,
    /// Connections at a time; one more is closed at once.
    pub max_connections: usize,
    /// Connections at a time from one IPv4 address, or one /64 of IPv6; 0 for no such limit.
    pub max_connections_per_address: usize,
    /// Calls at a time on one connection; HTTP/2 tells the client.
    pub max_concurrent_streams: u32,
    /// Calls at a time on all connections; one more is answered RESOURCE_EXHAUSTED.
    pub max_concurrent_requests: usize,
    /// The same for one subject.
    pub max_concurrent_requests_per_subject: usize,
    /// How long calls may wait for a processor, in the mean, before some are turned away.
    pub max_queue_delay: Duration,
    /// Scans of one subject, those that wait for their turn included.
    pub max_scans_per_subject: usize,
    /// How long a scan may wait for its turn.
    pub max_scan_wait: Duration,
    /// The largest head of a request: names and values of all fields, in bytes (RFC 9113, 6.5.2).
    pub max_header_list_bytes: u32,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a connection may take from there to its first call.
    pub first_call_timeout: Duration,
    /// How often a silent connection is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long the sign may take before the connection is dropped.
    pub keepalive_timeout: Duration,
    /// How long a connection may be without a call before it is closed.
    pub idle_timeout: Duration,
    /// The deadline of a call whose client sets none.
    pub default_request_timeout: Duration,
    /// The longest deadline of a call; it does not end a stream that has begun to answer.
    pub max_request_timeout: Duration,
    /// How long a client may take to read the answer to a call that is no stream.
    pub response_timeout: Duration,
    /// Writes that may wait for the disk; one more is answered RESOURCE_EXHAUSTED.
    pub write_queue: usize,
    /// The same for one subject.
    pub write_queue_per_subject: usize,
    /// Partners in one batch request.
    pub max_batch: usize,
    /// Listings under way whose revision is kept for their next page.
    pub max_listings: usize,
    /// How long a revision is kept for the next page of a listing.
    pub listing_ttl: Duration,
    /// Watch streams at a time; one more is answered RESOURCE_EXHAUSTED.
    pub max_watch_streams: usize,
    /// The same for one subject.
    pub max_watch_streams_per_subject: usize,
    /// Backups at a time; one more is answered RESOURCE_EXHAUSTED.
    pub max_backups: usize,
    /// How long a backup may not be read on, or a restore not be sent on, before it is ended.
    pub transfer_patience: Duration,
    /// The largest backup that is restored, in bytes.
    pub max_restore_bytes: usize,
    /// The most resources that a restore changes.
    pub max_restore_changes: usize,
    /// How long a restore may take.
    pub max_restore_time: Duration,
    /// Commits kept in memory for the watch streams that keep up.
    pub watch_tail_commits: usize,
    /// What those commits may weigh together, in bytes by estimate.
    pub watch_tail_bytes: usize,
    /// How long calls may go on when the server is told to end.
    pub drain_timeout: Duration,
}

/// How the server logs.
#[derive(Clone, Debug)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// Which lines: the directives of `tracing_subscriber::EnvFilter`, `info,partnerd=debug`.
    pub filter: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the server serves, apart from partners.
#[derive(Clone, Debug)]
pub struct Server {
    /// The domains that the XMPP servers serve themselves: refused as partners.
    pub local_domains: Vec<DomainName>,
    /// Whether clients may ask for the service's descriptors (`grpc.reflection.v1`).
    pub reflection: bool,
    /// The threads that serve connections.
    pub worker_threads: usize,
    /// How often certificate and key files are looked at for a change.
    pub reload_interval: Duration,
}

/// What the server expects of those who report on XMPP servers.
#[derive(Clone, Debug)]
pub struct Replicas {
    /// The most there may be.
    pub max_count: usize,
    /// How long one may be quiet before it counts as silent; it is asked to report three times as
    /// often.
    pub silent_after: Duration,
    /// Whether the id of a replica must be the subject of its token.
    pub id_is_subject: bool,
}

/// What is wrong with a configuration, one line for each mistake.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The lines. At least one.
    pub problems: Vec<String>,
}

impl Config {
    /// Reads and checks a configuration, files and folders included.
    ///
    /// # Errors
    /// Every mistake there is: unknown keys, values out of range, what is missing, what cannot be
    /// read or written.
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let (config, _keys) = Self::parse(layers, None)?;
        check::files(&config)?;
        Ok(config)
    }

    /// The same for a development server, which has its own folder, certificate and key, and
    /// listens on loopback addresses only.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn load_dev(layers: &Layers, development: Development) -> Result<Self, ConfigError> {
        let (config, _keys) = Self::parse(layers, Some(development))?;
        check::files(&config)?;
        Ok(config)
    }

    /// Reads the layers without a look at the files they name, and lists the keys there are.
    fn parse(
        layers: &Layers,
        development: Option<Development>,
    ) -> Result<(Self, Vec<Key>), ConfigError> {
        let reader = Reader::new(layers);
        let config = Self::read(&reader, development);
        check::consistent(&config, &reader);
        Ok((config, reader.finish()?))
    }

    fn read(r: &Reader<'_>, development: Option<Development>) -> Self {
        let dev = development.is_some();
        let (data_dir, tls, issuers) = match development {
            Some(Development { data_dir, tls, issuer }) => {
                // Known here too: it names the development folder, in which the data has a place.
                let _folder = r.path("data_dir");
                (data_dir, Some(tls), vec![issuer])
            }
            None => (
                r.required_path("data_dir", "name the folder for the data"),
                read_tls(r),
                auth::read_issuers(r),
            ),
        };
        Self {
            listen: r.filled_list(
                "listen",
                &["127.0.0.1:7443"],
                "an address and port",
                "give at least one, such as 127.0.0.1:7443",
            ),
            data_dir,
            dev,
            tls,
            auth: Auth::read(r, issuers),
            history: History::read(r),
            audit: Audit::read(r),
            limits: Limits::read(r),
            log: Log::read(r),
            server: Server::read(r),
            replicas: Replicas::read(r),
        }
    }
}

fn read_tls(r: &Reader<'_>) -> Option<TlsConfig> {
    let enabled = r.switch("tls.enabled", true);
    let file = |key: &str, remedy: &str| match enabled {
        true => r.required_path(key, remedy),
        false => r.path(key).unwrap_or_default(),
    };
    let config = TlsConfig {
        cert_file: file("tls.cert_file", "name the server's certificate, PEM"),
        key_file: file("tls.key_file", "name the certificate's private key, PEM"),
        client_ca_file: r.path("tls.client_ca_file"),
        client_auth: r.one_of(
            "tls.client_auth",
            "none",
            &[
                ("none", ClientAuth::None),
                ("optional", ClientAuth::Optional),
                ("required", ClientAuth::Required),
            ],
        ),
    };
    enabled.then_some(config)
}

impl History {
    fn read(r: &Reader<'_>) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            max_age: r.span(
                "history.max_age",
                Span::secs(90 * DAY),
                Span::secs(60)..=Span::secs(36_500 * DAY),
            ),
            max_commits: r.number("history.max_commits", 1_000_000, 1..=1_000_000_000),
        }
    }
}

impl Audit {
    fn read(r: &Reader<'_>) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        let max_age =
            r.span("audit.max_age", Span::secs(0), Span::secs(0)..=Span::secs(36_500 * DAY));
        let max_entries = r.number("audit.max_entries", 0, 0..=1_000_000_000_000);
        Self {
            max_age: (max_age > Duration::ZERO).then_some(max_age),
            max_entries: (max_entries > 0).then_some(max_entries),
        }
    }
}

impl Default for Limits {
    /// The documented defaults.
    fn default() -> Self {
        Self::read(&Reader::new(&Layers::without_file()))
    }
}

impl Limits {
    fn read(r: &Reader<'_>) -> Self {
        let span = |key, default, least, most| {
            r.span(key, Span::secs(default), Span::millis(least)..=Span::secs(most))
        };
        let max_message_bytes =
            r.size("limits.max_message_bytes", Size::mib(4), Size::kib(16)..=Size::mib(256));
        // What one may have of what all share is a part of it, unless it is given.
        let max_connections = r.number("limits.max_connections", 10_000, 1..=1_000_000);
        let max_concurrent_requests =
            r.number("limits.max_concurrent_requests", 10_000, 1..=1_000_000);
        let write_queue: usize = r.number("limits.write_queue", 1_024, 1..=65_536);
        Self {
            max_message_bytes,
            max_connections,
            max_connections_per_address: r.number(
                "limits.max_connections_per_address",
                (max_connections / 2).max(1),
                0..=1_000_000,
            ),
            max_concurrent_streams: r.number("limits.max_concurrent_streams", 256, 1..=100_000),
            max_concurrent_requests,
            max_concurrent_requests_per_subject: r.number(
                "limits.max_concurrent_requests_per_subject",
                (max_concurrent_requests / 4).max(1),
                1..=1_000_000,
            ),
            max_queue_delay: r.span(
                "limits.max_queue_delay",
                Span::millis(10),
                Span::millis(1)..=Span::secs(60),
            ),
            max_scans_per_subject: r.number("limits.max_scans_per_subject", 16, 1..=10_000),
            max_scan_wait: span("limits.max_scan_wait", 2, 10, 3_600),
            max_header_list_bytes: u32::try_from(r.size(
                "limits.max_header_list_bytes",
                Size::kib(64),
                Size::kib(8)..=Size::mib(1),
            ))
            .expect("the range ends far below 4 GiB"),
            handshake_timeout: span("limits.handshake_timeout", 10, 100, 300),
            first_call_timeout: span("limits.first_call_timeout", 60, 100, 86_400),
            keepalive_interval: span("limits.keepalive_interval", 60, 1_000, 7_200),
            keepalive_timeout: span("limits.keepalive_timeout", 20, 1_000, 600),
            idle_timeout: span("limits.idle_timeout", 900, 1_000, 86_400),
            default_request_timeout: span("limits.default_request_timeout", 30, 100, 3_600),
            max_request_timeout: span("limits.max_request_timeout", 60, 100, 3_600),
            response_timeout: span("limits.response_timeout", 60, 100, 86_400),
            write_queue,
            write_queue_per_subject: r.number(
                "limits.write_queue_per_subject",
                (write_queue / 2).max(1),
                1..=65_536,
            ),
            max_batch: r.number("limits.max_batch", 1_000, 1..=10_000),
            max_listings: r.number("limits.max_listings", 256, 1..=10_000),
            listing_ttl: span("limits.listing_ttl", 600, 1_000, 86_400),
            max_watch_streams: r.number("limits.max_watch_streams", 10_000, 1..=1_000_000),
            max_watch_streams_per_subject: r.number(
                "limits.max_watch_streams_per_subject",
                1_000,
                1..=1_000_000,
            ),
            max_backups: r.number("limits.max_backups", 2, 1..=100),
            transfer_patience: span("limits.transfer_patience", 60, 100, 3_600),
            max_restore_bytes: r.size(
                "limits.max_restore_bytes",
                Size::mib(256),
                Size::mib(1)..=Size::mib(4_096),
            ),
            max_restore_changes: r.number("limits.max_restore_changes", 100_000, 1..=10_000_000),
            max_restore_time: span("limits.max_restore_time", 600, 100, 36_000),
            watch_tail_commits: r.number("limits.watch_tail_commits", 10_000, 1..=1_000_000),
            watch_tail_bytes: r.size(
                "limits.watch_tail_bytes",
                Size::mib(64),
                Size::kib(64)..=Size::mib(4_096),
            ),
            drain_timeout: span("limits.drain_timeout", 30, 0, 3_600),
        }
    }
}

impl Log {
    fn read(r: &Reader<'_>) -> Self {
        Self {
            format: r.one_of(
                "log.format",
                "text",
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            ),
            filter: r.text("log.filter", Some("info")).unwrap_or_default(),
        }
    }
}

impl Server {
    fn read(r: &Reader<'_>) -> Self {
        Self {
            local_domains: r.list("server.local_domains", &[], "a domain"),
            reflection: r.switch("server.reflection", true),
            worker_threads: match r.number("server.worker_threads", 0, 0..=1_024) {
                0 => available_parallelism().map_or(1, NonZeroUsize::get),
                threads => threads,
            },
            reload_interval: r.span(
                "server.reload_interval",
                Span::secs(5),
                Span::millis(100)..=Span::secs(3_600),
            ),
        }
    }
}

impl Replicas {
    fn read(r: &Reader<'_>) -> Self {
        Self {
            max_count: r.number("replicas.max_count", 10_000, 1..=100_000),
            silent_after: r.span(
                "replicas.silent_after",
                Span::secs(90),
                Span::secs(3)..=Span::secs(3_600),
            ),
            id_is_subject: r.switch("replicas.id_is_subject", false),
        }
    }
}

impl ConfigError {
    fn one(problem: String) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
