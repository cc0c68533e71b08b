//! Decides which of containerd's calls are made, with which bounds, and what its answers mean.

mod execs;

pub(super) use execs::TaskIo;

use crate::exit::Ending;
use crate::runtime::{LaunchError, not_executable, not_found};
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, DeleteNamespaceRequest,
    DeleteTaskRequest, ListContainersRequest, StartRequest, WaitRequest,
};
use containerd_client::tonic::metadata::{Ascii, MetadataValue};
use containerd_client::tonic::transport::{Channel, Endpoint};
use containerd_client::tonic::{Code, Request, Status};
use prost_types::Any;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The shim that runs containers with runc, and how the type of a specification is written.
const SHIM: &str = "io.containerd.runc.v2";
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// The header that says whose containers are meant.
const NAMESPACE: &str = "containerd-namespace";
/// One call; creating a task takes 50 ms on an idle machine.
const CALL: Duration = Duration::from_secs(20);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("containerd at {} does not answer: {why}; is it running?", .socket.display())]
    Unreachable { socket: PathBuf, why: String },
    #[error("{0}")]
    Refused(String),
}

impl From<Failed> for LaunchError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unreachable { .. } => Self::Away(failed.told()),
            Failed::Refused(_) => Self::Refused(failed.told()),
        }
    }
}

impl Failed {
    /// What the user of a sandbox that could not be made is told.
    fn told(&self) -> String {
        match self {
            Self::Unreachable { .. } => self.to_string(),
            Self::Refused(why) => about_command(why).unwrap_or_else(|| format!("creating the sandbox: {why}")),
        }
    }
}

/// runc names the command it could not execute in the midst of its own words.
fn about_command(why: &str) -> Option<String> {
    let (command, rest) = why.split_once("exec: \"")?.1.split_once("\": ")?;
    if rest.contains("not found") || rest.contains("no such file") {
        Some(not_found(command))
    } else if rest.contains("permission denied") || rest.contains("is a directory") {
        Some(not_executable(command))
    } else {
        None
    }
}

/// containerd, as one node sees it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
    socket: PathBuf,
}

impl Client {
    /// Connects when it is first needed, and again whenever containerd is back.
    pub(super) fn new(socket: &Path, namespace: &str) -> Result<Self, String> {
        let address = format!("unix://{}", socket.display());
        let endpoint = Endpoint::try_from(address).map_err(|error| format!("{}: {error}", socket.display()))?;
        let namespace = namespace.parse();
        Ok(Self {
            channel: endpoint.timeout(CALL).connect_timeout(CALL).connect_lazy(),
            namespace: namespace.map_err(|_| "the name of the node has characters it may not have".to_owned())?,
            socket: socket.to_owned(),
        })
    }

    fn containers_client(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone())
    }

    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE, self.namespace.clone());
        request
    }

    fn failed(&self, status: &Status) -> Failed {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Failed::Unreachable {
                socket: self.socket.clone(),
                why: status.message().to_owned(),
            },
            _ => Failed::Refused(status.message().to_owned()),
        }
    }

    /// None when there is no such thing.
    fn if_there<T>(&self, result: Result<T, Status>) -> Result<Option<T>, Failed> {
        match result {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(&status)),
        }
    }

    /// Records a container; `spec` is JSON.
    pub(super) async fn create_container(&self, id: &str, spec: Vec<u8>) -> Result<(), Failed> {
        let container = Container {
            id: id.to_owned(),
            runtime: Some(Runtime {
                name: SHIM.to_owned(),
                options: None,
            }),
            spec: Some(Any {
                type_url: SPEC.to_owned(),
                value: spec,
            }),
            ..Container::default()
        };
        let request = self.request(CreateContainerRequest {
            container: Some(container),
        });
        let created = self.containers_client().create(request).await;
        created.map(drop).map_err(|status| self.failed(&status))
    }

    /// Makes the processes of a container, and returns init, which waits.
    pub(super) async fn create_task(&self, id: &str, stdio: TaskIo) -> Result<u32, Failed> {
        let request = self.request(CreateTaskRequest {
            container_id: id.to_owned(),
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
            ..CreateTaskRequest::default()
        });
        let created = self.tasks().create(request).await;
        Ok(created.map_err(|status| self.failed(&status))?.into_inner().pid)
    }

    pub(super) async fn start_task(&self, id: &str) -> Result<(), Failed> {
        let request = self.request(StartRequest {
            container_id: id.to_owned(),
            ..StartRequest::default()
        });
        let started = self.tasks().start(request).await;
        started.map(drop).map_err(|status| self.failed(&status))
    }

    /// Removes what is left of a container whose processes end or have ended. How it ended; none if it has no task.
    pub(super) async fn delete_task(&self, id: &str) -> Result<Option<Ending>, Failed> {
        let request = self.request(WaitRequest {
            container_id: id.to_owned(),
            ..WaitRequest::default()
        });
        // The shim may not have seen the exit yet, and does not delete before it has.
        self.if_there(self.tasks().wait(request).await)?;
        let request = self.request(DeleteTaskRequest {
            container_id: id.to_owned(),
        });
        let deleted = self.if_there(self.tasks().delete(request).await)?;
        // The shim adds 128 to the number of a signal.
        Ok(deleted.map(|answer| Ending::of_number(answer.into_inner().exit_status.cast_signed())))
    }

    pub(super) async fn delete_container(&self, id: &str) -> Result<(), Failed> {
        let request = self.request(DeleteContainerRequest { id: id.to_owned() });
        self.if_there(self.containers_client().delete(request).await).map(drop)
    }

    /// The namespace of the node, which has to be empty.
    pub(super) async fn delete_namespace(&self) -> Result<(), Failed> {
        let name = self.namespace.to_str().unwrap_or_default().to_owned();
        let request = self.request(DeleteNamespaceRequest { name });
        let deleted = NamespacesClient::new(self.channel.clone()).delete(request).await;
        self.if_there(deleted).map(drop)
    }

    /// Ids of all containers of this node.
    pub(super) async fn containers(&self) -> Result<BTreeSet<String>, Failed> {
        let request = self.request(ListContainersRequest::default());
        let listed = self.containers_client().list(request).await;
        let containers = listed.map_err(|status| self.failed(&status))?.into_inner().containers;
        Ok(containers.into_iter().map(|container| container.id).collect())
    }
}

/// As `wait(2)` writes it, where an exit with 137 and SIGKILL need not be told apart. The shim adds 128 to the number of a signal.
fn raw_status(exit_status: u32) -> i32 {
    let status = exit_status.cast_signed();
    if (129..=192).contains(&status) {
        status - 128
    } else {
        (status & 0xff) << 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_a_command_that_cannot_run_is_named_as_by_the_other_runtime() {
        let told = |why: &str| {
            let around = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start \
                          container process: ";
            Failed::Refused(format!("{around}{why}: unknown")).told()
        };
        assert_eq!(
            told("exec: \"nope\": executable file not found in $PATH"),
            "command not found: nope"
        );
        assert_eq!(
            told("exec: \"./nope\": stat ./nope: no such file or directory"),
            "command not found: ./nope"
        );
        assert!(told("exec: \"./file\": permission denied").starts_with("command not executable: ./file;"));
        assert!(told("error mounting \"x\"").starts_with("creating the sandbox: failed to create shim task"));
    }

    #[test]
    fn a_signal_and_a_code_are_told_apart() {
        assert_eq!(raw_status(0), 0);
        assert_eq!(raw_status(3), 3 << 8);
        assert_eq!(raw_status(137), 9);
        assert_eq!(raw_status(255), 255 << 8);
    }
}
