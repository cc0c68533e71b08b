//! What the daemons answer, and which builds of them run.

use super::settings::Settings;
use crate::paths;
use crate::verb::upgrade::process::{self, Role};
use crate::verb::upgrade::{check, program};
use crate::{Context, failure::Failure};
use miren_api::resource::ServerVersion;
use miren_api::upgrade::ProxyFacts;
use std::path::{Path, PathBuf};

/// What was seen of the server.
#[derive(Clone, Debug)]
pub struct Running {
    /// Version of this program.
    pub own: String,
    /// Of the control that answers, or why none does.
    pub control: Result<String, String>,
    pub settings: PathBuf,
    pub proxy: Proxy,
}

#[derive(Clone, Debug)]
pub enum Proxy {
    /// With its version, where that can be seen.
    Runs { pid: u32, version: Option<String> },
    /// Nobody serves at this socket.
    Absent(PathBuf),
    /// What it says of itself cannot be read.
    Unknown(String),
}

pub async fn look(settings: &Settings, socket: &Path, context: &Context<'_>) -> Running {
    Running {
        own: env!("CARGO_PKG_VERSION").to_owned(),
        control: control(context).await.map_err(|failure| failure.message),
        settings: settings.control.clone(),
        proxy: proxy(settings, socket).await,
    }
}

async fn control(context: &Context<'_>) -> Result<String, Failure> {
    let answer: ServerVersion = context.client()?.get(paths::VERSION).await?;
    Ok(answer.version)
}

/// Asks the program that is beside the control that runs, or beside this one, where its process would be reached.
async fn proxy(settings: &Settings, socket: &Path) -> Proxy {
    let running = process::control_at(socket).and_then(|found| Role::of(found.pid, Path::new(check::CONTROL_CONFIG)));
    let own = || std::env::current_exe().unwrap_or_default();
    let program = running
        .map_or_else(own, |role| role.program)
        .with_file_name(check::PROXY);
    let facts: ProxyFacts = match program::facts(&program, &settings.proxy).await {
        Ok(facts) => facts,
        Err(failure) => return Proxy::Unknown(failure.message),
    };
    match process::proxy_at(&facts.socket) {
        Some(pid) => Proxy::Runs {
            pid,
            version: program::version(&process::image(pid)).await.ok(),
        },
        None => Proxy::Absent(facts.socket),
    }
}
