//! One integration binary: real gRPC over real sockets, real stores in temporary folders.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

mod access;
mod audit;
mod cli;
mod cli_files;
mod durability;
mod filters;
mod hostile;
mod layers;
mod lists;
mod partners;
mod resolve;
mod revocations;
mod roles;
mod scopes;
mod serve;
mod settings;
mod tls;
mod uses;
mod watch;
