//! The contract between `miren-control`, `miren-proxy` and the CLI: ids, resources, errors, settings files, and the typed client.

#![deny(clippy::unwrap_used)]

pub mod app_file;
pub mod beneath;
pub mod client;
pub mod deploy;
pub mod ephemeral;
pub mod error;
pub mod exec;
pub mod host;
pub mod id;
pub mod identity;
pub mod lease;
pub mod node;
pub mod reference;
pub mod resource;
pub mod routing;
pub mod run;
pub mod settings;
pub mod upgrade;

pub use client::{Client, ClientError, Server};
pub use error::{ApiError, ErrorCode};
pub use id::{AppName, DeployId, Label, PoolId, SandboxId, VersionId};
pub use identity::Identity;
