//! The tower layer that authenticates every request.
