//! Decides which of containerd's calls are made for a further command in a container.

use super::{Client, Failed, raw_status};
use crate::bundle::ExecDir;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, KillRequest, StartRequest, WaitRequest,
};
use containerd_client::tonic::Code;
use prost_types::Any;
use std::path::Path;

/// How the type of a process is written.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

impl Client {
    /// Records a command; `process` is JSON.
    pub(in crate::containerd) async fn create_exec(
        &self,
        id: &str,
        exec: &ExecDir,
        process: Vec<u8>,
    ) -> Result<(), Failed> {
        let text = |path: &Path| path.display().to_string();
        let request = self.request(ExecProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.name.clone(),
            stdin: if exec.has_input {
                text(&exec.stdin())
            } else {
                String::new()
            },
            stdout: text(&exec.stdout()),
            stderr: text(&exec.stderr()),
            terminal: false,
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
