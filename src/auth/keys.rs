//! Key sources: where the keys that verify tokens come from.
