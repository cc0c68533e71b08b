//! Decides how a folder with a Dockerfile becomes an image: which builder does it, what that may touch, what is told of it.
//!
//! A build runs what a tenant wrote. buildah and all it starts are in a root and in namespaces of their own, with users
//! that are nobody on the host, and end with them; buildkit and docker isolate their builds themselves.

#![deny(clippy::unwrap_used)]

mod archive;
mod base;
mod buildah;
mod buildkit;
mod builds;
mod client;
mod context;
mod docker;
mod error;
mod jail;
mod job;
mod limits;
mod line;
mod login;
mod program;
mod registry;
mod relay;
mod scratch;
mod storage;
#[cfg(test)]
mod tests;
mod turn;

pub use archive::Archive;
pub use builds::{Builds, Order, Outside, Settings};
pub use error::BuildError;

/// Becomes a builder in a root of its own and exits, if that is what this process was started for.
///
/// Call it first thing in `main`, before any thread exists: it forks.
pub fn helper_main_if_asked() {
    jail::main_if_asked();
}
