//! partnerd: the system of record for XMPP federation partners.
//!
//! The modules in reading order, from the model outwards:
//!
//! - [`domain`]: the model. No I/O, no async, no protobuf.
//! - [`auth`]: who a caller is and whether he may. The only maker of permits.
//! - [`store`]: where the state lives. The only module that knows keys and bytes on a disk.
//! - [`registry`]: the use cases. Takes permits, holds the snapshot, commits.
//! - [`proto`]: the types generated from `proto/`.
//! - [`grpc`]: the rim. The only server module that knows protobuf.
//! - [`client`]: reaching and following a service from the other side of the wire.
//! - [`agent`]: beside an XMPP server, making it obey.
//! - [`cli`]: the commands of `partnerctl`; [`commands`]: those of `partnerd`.
//! - [`service`]: what answers a call, and what is put around it.
//! - [`config`], [`telemetry`], [`tls`], [`certs`], [`dev`], [`files`], [`systemd`], [`server`]:
//!   what puts a server together.

pub mod domain;

pub mod auth;
pub mod store;

pub mod registry;

pub mod proto;

pub mod grpc;

pub mod client;

pub mod agent;

pub mod cli;
pub mod commands;

pub mod certs;
pub mod config;
pub mod dev;
pub mod files;
pub mod server;
pub mod service;
pub mod systemd;
pub mod telemetry;
pub mod tls;
