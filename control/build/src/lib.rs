//! Decides how a folder with a Dockerfile becomes an image: which builder does it, what that may touch, what is told of it.
//!
//! A build runs what a tenant wrote. buildah and all it starts are in process, mount and network namespaces of their own
//! and end with them; buildkit and docker isolate their builds themselves.

mod archive;
mod base;
mod buildah;
mod buildkit;
mod builds;
mod client;
mod context;
mod docker;
mod error;
mod job;
mod line;
mod program;
#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use builds::{Builds, Order, Outside, Settings};
pub use error::BuildError;
