//! Caller + roles -> permit.
