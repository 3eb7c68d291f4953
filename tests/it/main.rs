//! One integration binary: real gRPC over real sockets, real stores in temporary folders.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

mod access;
mod agent;
mod audit;
mod audit_denials;
mod audit_retention;
mod audit_watch;
mod backup;
mod cli;
mod cli_files;
mod cli_roles;
mod crash;
mod durability;
mod expiry;
mod filters;
mod history;
mod hostile;
mod identities;
mod informer;
mod issuers;
mod layers;
mod lists;
mod logins;
mod oidc_provider;
mod overload;
mod partners;
mod replicas;
mod resolve;
mod revocations;
mod roles;
mod scopes;
mod serve;
mod settings;
mod tls;
mod uses;
mod watch;
