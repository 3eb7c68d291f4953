//! Logs and request spans.
