//! `miren dev`: both daemons in the foreground with generated settings in one folder, until told to stop.

use crate::Context;
use crate::failure::{Exit, Failure};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

mod announce;
mod binary;
mod config;
mod daemon;
pub mod desk;
mod layout;
pub mod lock;
mod notify;
mod plan;
mod program;
mod stop;
mod subnet;

use daemon::{Daemon, Ended};
use desk::Desk;
use plan::Plan;
use stop::{Stop, StopLevel};

#[derive(Debug, Args)]
pub struct DevOptions {
    /// Folder for settings, data and logs; made if it does not exist
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Where requests are taken; port 0 means any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub http: std::net::SocketAddr,
    /// Tells several of them on one machine apart
    #[arg(long, default_value = "dev")]
    pub name: String,
    /// What runs the sandboxes
    #[arg(long, value_enum, default_value = "embedded")]
    pub runtime: Runtime,
    /// Where containerd listens
    #[arg(long, value_name = "PATH", default_value = "/run/containerd/containerd.sock")]
    pub containerd_socket: PathBuf,
    /// Whether the kernel keeps the slot table: where it can, always, or never
    #[arg(long, value_enum, default_value = "auto")]
    pub fast_path: FastPath,
    /// A registry of this machine or its network that deploys and Dockerfiles may name; may be given again
    #[arg(long = "registry", value_name = "HOST[:PORT]")]
    pub registries: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// A helper process for each sandbox; needs no other daemon
    Embedded,
    /// The containerd at --containerd-socket
    Containerd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FastPath {
    Auto,
    Kernel,
    Off,
}

impl FastPath {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Off => "off",
        }
    }
}

/// Runs until Ctrl-C or SIGTERM. Nothing of it is left running afterwards.
pub async fn run(options: DevOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let stop = stop::listen()?;
    context.console.never_wait_for_notes()?;
    let plan = Plan::make(&options, context.console).await?;
    let mut control = Daemon::prepare(plan.control(), context.console.notes())?;
    let mut proxy = Daemon::prepare(plan.proxy(), context.console.notes())?;
    proxy.answers_at(Desk::open(plan.layout())?);

    let started = start(&plan, &mut control, &mut proxy, &stop).await;
    let outcome = match started {
        Ok(ready) => {
            // The reader of that line may go; the daemons stay.
            let _ = announce::print(&ready, &plan, context.console);
            serve(&mut control, &mut proxy, &stop).await
        }
        Err(failure) => {
            // Whatever failed, what was started is stopped; the proxy first, so that control finds nothing in flight.
            let ended = [proxy.stop(stop.clone()).await, control.stop(stop.clone()).await];
            if ended.contains(&Ended::Forced) {
                Err(Failure::interrupted())
            } else {
                Err(failure)
            }
        }
    };
    // Their sockets are in the folder that is removed next.
    drop((control, proxy));
    plan.clean_up();
    outcome
}

async fn start(plan: &Plan, control: &mut Daemon, proxy: &mut Daemon, stop: &Stop) -> Result<announce::Ready, Failure> {
    let ready = control.start(stop.clone()).await?;
    let control_ready = announce::ControlReady::parse(&ready)?;
    plan.write_proxy_settings(&control_ready)?;
    let ready = proxy.start(stop.clone()).await?;
    let proxy_ready = announce::ProxyReady::parse(&ready)?;
    Ok(announce::Ready::new(plan, control_ready, proxy_ready))
}

/// Keeps both daemons running until told to stop, then ends them: at the same time, as each waits for the other's
/// requests and leases only as long as its own deadlines say.
async fn serve(control: &mut Daemon, proxy: &mut Daemon, stop: &Stop) -> Result<Exit, Failure> {
    let (control_ended, proxy_ended) = tokio::join!(control.keep(stop.clone()), proxy.keep(stop.clone()));
    if stop.level() == StopLevel::Forced {
        return Err(Failure::interrupted_while("stopped at once, without cleaning up")
            .remedy("\"miren dev\" with the same --dir and --name adopts or removes what was left"));
    }
    for (daemon, ended) in [(control, control_ended), (proxy, proxy_ended)] {
        if let Ended::Killed(why) = ended {
            return Err(Failure::failed(format!("stopping {}: {why}", daemon.name()))
                .remedy("\"miren dev\" with the same --dir and --name adopts or removes what was left"));
        }
    }
    Ok(Exit::Done)
}
