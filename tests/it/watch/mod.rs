//! The watch: the state, what was missed and what happens, as one stream.

mod basics;
mod checker;
mod ends;
mod promises;
mod promptness;
pub mod rights;
mod slow;
