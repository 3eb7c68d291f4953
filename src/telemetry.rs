//! provisional until merged
#![allow(missing_docs)]
use std::sync::{Arc, OnceLock};
#[derive(Debug)]
pub struct RequestInfo {
    pub request_id: Arc<str>,
    pub subject: OnceLock<Arc<str>>,
    pub revision: OnceLock<i64>,
}
