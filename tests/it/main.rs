//! One integration binary: real gRPC over real sockets, real stores in temporary folders.

mod harness;

mod access;
mod filters;
mod layers;
mod lists;
mod partners;
mod resolve;
mod settings;
