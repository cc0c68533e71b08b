//! Decides how container images are kept: fetched or read from an archive, verified, unpacked once per layer, shared by all.
//!
//! A store is one folder of root's. [`Images`] is all there is to its outside; the folders that
//! [`Images::lower_dirs`] names are the lower directories of an overlay mount.

#![deny(clippy::unwrap_used)]

mod archive;
mod auths;
mod config;
mod digest;
mod error;
mod images;
mod layer;
mod limits;
mod manifest;
mod progress;
mod reference;
mod registries;
mod registry;
mod temp;
mod user;
mod view;

pub use auths::Auths;
pub use config::{Config, Port, Protocol};
pub use digest::Digest;
pub use error::{Fault, ImageError};
pub use images::{Collected, Image, Images};
pub use limits::Limits;
pub use progress::{Progress, Watch};
pub use reference::Reference;
pub use registries::{Authority, Registries};
pub use user::User;
