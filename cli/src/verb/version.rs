//! `miren version`: this program's version, and the server's where one answers.

use crate::failure::Failure;
use crate::{Context, paths};
use miren_api::ClientError;
use miren_api::resource::ServerVersion;
use serde::Serialize;

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    /// Null when no server answers.
    server: Option<ServerVersion>,
}

pub async fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let server = match context.client()?.get::<ServerVersion>(paths::VERSION).await {
        Ok(server) => Some(server),
        Err(error @ ClientError::Unreachable { .. }) => {
            context.console.detail(&error.to_string());
            None
        }
        Err(error) => return Err(Failure::from(error).doing("asking the server's version")),
    };
    let line = match &server {
        Some(server) => format!(
            "miren {}, server {} on {}",
            env!("CARGO_PKG_VERSION"),
            server.version,
            server.node
        ),
        None => format!("miren {}, no server at {}", env!("CARGO_PKG_VERSION"), context.server),
    };
    context.console.done(
        &Versions {
            version: env!("CARGO_PKG_VERSION"),
            server,
        },
        &line,
    )
}
