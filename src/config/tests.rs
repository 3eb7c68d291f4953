//! Each mistake and the line that tells it.
