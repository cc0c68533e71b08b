//! Decides where a test can have a step fail, hang, panic or be killed; without the feature `faults` there is nothing of it.
//!
//! A point stands before what may fail, and what comes of it there is what would come of the step itself: its error, its limit in
//! time, its dead task, its dead process. Which points there are is said in [`Point`] only.

#![deny(clippy::unwrap_used)]

#[cfg(feature = "faults")]
mod armed;
#[cfg(feature = "faults")]
mod kind;
mod points;
#[cfg(not(feature = "faults"))]
mod unarmed;

#[cfg(feature = "faults")]
pub use armed::{FOLDER, Fault, at, blocking, deadline, pass};
#[cfg(feature = "faults")]
pub use kind::Kind;
pub use points::Point;
#[cfg(not(feature = "faults"))]
pub use unarmed::{Fault, at, blocking, deadline, pass};

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        Self::other(fault)
    }
}
