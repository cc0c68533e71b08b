//! Decides what a point is in what is shipped: nothing.

use crate::Point;
use std::fmt;
use std::future::{Ready, ready};
use std::time::Duration;

/// What no point of this build makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Fault {}

/// Goes on.
#[inline(always)]
pub fn at(_: Point) -> Ready<Result<(), Fault>> {
    ready(Ok(()))
}

/// Goes on.
///
/// # Errors
/// None.
#[inline(always)]
pub fn blocking(_: Point) -> Result<(), Fault> {
    Ok(())
}

/// Goes on.
#[inline(always)]
pub fn pass(_: Point) {}

/// As long as it is.
#[inline(always)]
pub const fn deadline(limit: Duration) -> Duration {
    limit
}
