//! Decides what peers have behind them: processes of the sample app, which exit as soon as they are told to.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait;
use crate::node;

const LIMIT: Duration = Duration::from_secs(10);

/// A running copy of the sample app; stopped when dropped.
pub struct AppProcess {
    app: Child,
    pub address: SocketAddr,
}

/// An address of loopback where nobody listens now; nobody else takes ports there in this moment.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl AppProcess {
    /// Starts one, with `folder` as its own, and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(folder: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut app = Command::new(node::program("hello-rust")?);
        app.current_dir(folder).env("PORT", address.port().to_string());
        app.stdin(Stdio::null()).stdout(Stdio::null());
        let app = app.spawn().context("starting the sample app")?;
        let started = Self { app, address };
        let look = || Ok(TcpStream::connect(address).ok());
        wait::until(&format!("the sample app to listen at {address}"), LIMIT, look)?;
        Ok(started)
    }

    /// Tells it to end, which it does at once, and waits until it has.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end().context("stopping the sample app")
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.app.try_wait()?.is_none() {
            kill(Pid::from_raw(i32::try_from(self.app.id())?), Signal::SIGTERM)?;
            self.app.wait()?;
        }
        Ok(())
    }
}

impl Drop for AppProcess {
    fn drop(&mut self) {
        // Ended already in the ordinary case.
        let _ = self.end();
    }
}
