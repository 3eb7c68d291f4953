//! Domain values to bytes and back.
