//! `miren doctor`: one verdict on the machine and on what runs on it, each check with its remedy.

use crate::Context;
use crate::failure::{Exit, Failure};
use clap::Args;
use judge::Check;
use miren_api::Server;
use serde::Serialize;
use settings::Settings;
use std::path::PathBuf;

mod bpf;
mod judge;
mod machine;
mod ports;
mod server;
mod settings;

#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// The settings of control; otherwise those of the control that answers, or /etc/miren/control.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The settings of the proxy; otherwise proxy.toml beside those of control
    #[arg(long, value_name = "FILE")]
    proxy_config: Option<PathBuf>,
    /// Look at the machine only: for one where nothing is installed yet
    #[arg(long)]
    machine: bool,
}

#[derive(Serialize)]
struct Verdict<'c> {
    ok: bool,
    checks: Vec<&'c Check>,
}

pub async fn run(options: DoctorOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let Server::Unix(socket) = &context.server;
    let socket = socket.clone();
    let settings = Settings::find(options.config, options.proxy_config, &socket);
    let machine = judge::machine(&machine::look(&settings));
    let server = match options.machine {
        true => Vec::new(),
        false => judge::server(&server::look(&settings, &socket, context).await),
    };
    let ok = machine.iter().chain(&server).all(|check| check.ok);
    if context.console.is_json() {
        let checks = machine.iter().chain(&server).collect();
        context.console.document(&Verdict { ok, checks })?;
    } else {
        tell("This machine", &machine, context)?;
        tell(&format!("The server at {}", context.server), &server, context)?;
        let bad = machine.iter().chain(&server).filter(|check| !check.ok).count();
        let verdict = match bad {
            0 => "Nothing is wrong".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            many => format!("{many} things are wrong"),
        };
        context.console.line(&verdict)?;
    }
    Ok(if ok { Exit::Done } else { Exit::Failed })
}

fn tell(heading: &str, checks: &[Check], context: &mut Context<'_>) -> Result<(), Failure> {
    if checks.is_empty() {
        return Ok(());
    }
    context.console.line(heading)?;
    for check in checks {
        let word = if check.ok { "ok" } else { "WRONG" };
        context
            .console
            .line(&format!("  {word:<5}  {:<10}  {}", check.name, check.detail))?;
        if !check.remedy.is_empty() {
            context.console.line(&format!("{:21}try: {}", "", check.remedy))?;
        }
    }
    context.console.line("")
}
