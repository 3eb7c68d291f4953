//! One integration binary: real gRPC over real sockets, real stores in temporary folders.

mod harness;

mod access;
mod durability;
mod hostile;
mod layers;
mod lists;
mod partners;
mod resolve;
mod settings;
mod uses;
