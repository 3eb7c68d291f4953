//! provisional until merged
#![allow(missing_docs)]
use super::violation::Violation;
use std::{cmp::Ordering, marker::PhantomData};
#[derive(Debug)]
pub struct Filter<T>(PhantomData<T>);
impl<T> Filter<T> {
    pub fn parse(_: &str) -> Result<Self, Violation> {
        Ok(Self(PhantomData))
    }
    pub fn matches(&self, _: &T) -> bool {
        true
    }
    pub fn is_empty(&self) -> bool {
        true
    }
}
#[derive(Debug)]
pub struct OrderBy<T>(PhantomData<T>);
impl<T> OrderBy<T> {
    pub fn parse(_: &str) -> Result<Self, Violation> {
        Ok(Self(PhantomData))
    }
    pub fn compare(&self, _: &T, _: &T) -> Ordering {
        Ordering::Equal
    }
    pub fn is_by_name(&self) -> bool {
        true
    }
}
