//! TLS acceptor.
