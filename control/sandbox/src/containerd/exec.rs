//! Decides how a further command is run with containerd: by its shim, through pipes of ours.

use super::client::{Client, Failed};
use crate::bundle::ExecDir;
use crate::runtime::{Executed, LaunchError};
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a command that was killed may take to be gone.
const END: Duration = Duration::from_secs(5);

/// A command in a container.
pub(super) struct Joined {
    client: Client,
    sandbox: String,
    name: String,
    /// Asked at once: nothing is known of it any more once its sandbox is gone.
    ended: JoinHandle<Result<i32, Failed>>,
}

impl Joined {
    /// Returns when the command runs.
    pub(super) async fn begin(client: &Client, sandbox: &str, exec: &ExecDir) -> Result<Self, LaunchError> {
        let process = std::fs::read(exec.process())?;
        client.create_exec(sandbox, exec, process).await?;
        if let Err(error) = client.start_exec(sandbox, &exec.name).await {
            end(client, sandbox, &exec.name).await;
            return Err(error.into());
        }
        let (client, sandbox, name) = (client.clone(), sandbox.to_owned(), exec.name.clone());
        let ended = miren_log::spawn("waiting for a command", {
            let (client, sandbox, name) = (client.clone(), sandbox.clone(), name.clone());
            async move { client.wait_exec(&sandbox, &name).await }
        });
        Ok(Self {
            client,
            sandbox,
            name,
            ended,
        })
    }
}

#[async_trait]
impl Executed for Joined {
    fn end_input(&self) -> BoxFuture<'static, ()> {
        end_input(&self.client, &self.sandbox, &self.name)
    }

    async fn wait(&mut self) -> Result<i32, String> {
        match (&mut self.ended).await {
            Ok(waited) => waited.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn end(self: Box<Self>) {
        end(&self.client, &self.sandbox, &self.name).await;
        self.ended.abort();
    }
}

/// The shim holds the pipe open, so that a client may go and come again. `name`: empty for the first command.
pub(super) fn end_input(client: &Client, sandbox: &str, name: &str) -> BoxFuture<'static, ()> {
    let (client, sandbox, name) = (client.clone(), sandbox.to_owned(), name.to_owned());
    let told = async move {
        if let Err(error) = client.end_exec_input(&sandbox, &name).await {
            tracing::warn!(sandbox, %error, "containerd does not end the input of a command");
        }
    };
    told.boxed()
}

async fn end(client: &Client, sandbox: &str, name: &str) {
    if let Ok(Err(error)) = timeout(END, client.end_exec(sandbox, name)).await {
        // It ends with its sandbox at the latest.
        tracing::warn!(sandbox, %error, "containerd does not end a command");
    }
}
