//! Decides which of containerd's calls are made for a further command in a container.

use super::{Client, Failed, raw_status};
use crate::bundle::ExecDir;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, KillRequest, ResizePtyRequest, StartRequest, WaitRequest,
};
use containerd_client::tonic::Code;
use miren_api::exec::TerminalSize;
use prost_types::Any;
use std::path::PathBuf;

/// How the type of a process is written.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// What a process of a container has as its inputs and outputs: paths, or the URI of what writes its log.
pub(in crate::containerd) struct TaskIo {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) terminal: bool,
}

impl TaskIo {
    /// The pipes of ours that it is spoken with through.
    pub(in crate::containerd) fn of(exec: &ExecDir) -> Self {
        let text = |path: PathBuf| path.display().to_string();
        let if_any = |is_there: bool, path: PathBuf| if is_there { text(path) } else { String::new() };
        Self {
            stdin: if_any(exec.has_input, exec.stdin()),
            stdout: text(exec.stdout()),
            stderr: if_any(!exec.has_terminal, exec.stderr()),
            terminal: exec.has_terminal,
        }
    }

    /// Nothing to read, and both outputs to what writes the log.
    pub(in crate::containerd) fn to_log(uri: &str) -> Self {
        Self {
            stdin: String::new(),
            stdout: uri.to_owned(),
            stderr: uri.to_owned(),
            terminal: false,
        }
    }
}

impl Client {
    /// Makes the terminal of a process of a container this large.
    pub(in crate::containerd) async fn resize(
        &self,
        id: &str,
        exec: Option<&str>,
        size: TerminalSize,
    ) -> Result<(), Failed> {
        let request = self.request(ResizePtyRequest {
            container_id: id.to_owned(),
            exec_id: exec.unwrap_or_default().to_owned(),
            width: size.columns.into(),
            height: size.rows.into(),
        });
        let resized = self.tasks().resize_pty(request).await;
        resized.map(drop).map_err(|status| self.failed(&status))
    }

    /// Records a command; `process` is JSON.
    pub(in crate::containerd) async fn create_exec(
        &self,
        id: &str,
        exec: &ExecDir,
        process: Vec<u8>,
    ) -> Result<(), Failed> {
        let TaskIo {
            stdin,
            stdout,
            stderr,
            terminal,
        } = TaskIo::of(exec);
        let request = self.request(ExecProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.name.clone(),
            stdin,
            stdout,
            stderr,
            terminal,
            spec: Some(Any {
                type_url: PROCESS.to_owned(),
                value: process,
            }),
        });
        let recorded = self.tasks().exec(request).await;
        recorded.map(drop).map_err(|status| self.failed(&status))
    }

    pub(in crate::containerd) async fn start_exec(&self, id: &str, name: &str) -> Result<(), Failed> {
        let request = self.request(StartRequest {
            container_id: id.to_owned(),
            exec_id: name.to_owned(),
        });
        let started = self.tasks().start(request).await;
        started.map(drop).map_err(|status| self.failed(&status))
    }

    /// Waits for its end, which may take longer than one call; its raw wait status.
    pub(in crate::containerd) async fn wait_exec(&self, id: &str, name: &str) -> Result<i32, Failed> {
        loop {
            let request = self.request(WaitRequest {
                container_id: id.to_owned(),
                exec_id: name.to_owned(),
            });
            match self.tasks().wait(request).await {
                Ok(answer) => return Ok(raw_status(answer.into_inner().exit_status)),
                Err(status) if matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) => {}
                Err(status) => return Err(self.failed(&status)),
            }
        }
    }

    pub(in crate::containerd) async fn end_exec_input(&self, id: &str, name: &str) -> Result<(), Failed> {
        let request = self.request(CloseIoRequest {
            container_id: id.to_owned(),
            exec_id: name.to_owned(),
            stdin: true,
        });
        self.if_there(self.tasks().close_io(request).await).map(drop)
    }

    /// Kills it, if it runs still, and has it forgotten. What is gone is no error.
    pub(in crate::containerd) async fn end_exec(&self, id: &str, name: &str) -> Result<(), Failed> {
        let request = self.request(KillRequest {
            container_id: id.to_owned(),
            exec_id: name.to_owned(),
            signal: 9,
            all: false,
        });
        self.if_there(self.tasks().kill(request).await)?;
        let request = self.request(WaitRequest {
            container_id: id.to_owned(),
            exec_id: name.to_owned(),
        });
        self.if_there(self.tasks().wait(request).await)?;
        let request = self.request(DeleteProcessRequest {
            container_id: id.to_owned(),
            exec_id: name.to_owned(),
        });
        self.if_there(self.tasks().delete_process(request).await).map(drop)
    }
}
