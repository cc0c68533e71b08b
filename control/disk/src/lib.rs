//! Decides how a disk is kept and mounted on this machine: as an image with a file system of its own, or as a folder.
//!
//! All calls block: call them where blocking is allowed. What exists is never made anew or formatted, whatever reading
//! it says; an error of a read stops the call and says what cannot be read.

#![deny(clippy::unwrap_used)]

mod directory;
mod disk;
mod disks;
mod error;
mod folder;
mod holders;
mod image;
mod limits;
mod mounts;
mod program;
mod step;
#[cfg(test)]
mod tests;
mod uuid;

pub use disk::{AttachOptions, Disk, DiskId, DiskSpec, Filesystem, Mounted, Provider, Usage};
pub use disks::Disks;
pub use error::DiskError;
pub use limits::Limits;
pub use uuid::Uuid;
