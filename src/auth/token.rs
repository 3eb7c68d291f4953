//! JWT bytes to a verified caller.
