//! Why the proxy cannot start, each with what to do about it.

use miren_api::ClientError;
use miren_loader::OpenError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A reason not to start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{address} is in use by another process; stop it, or set {key} to another address in proxy.toml")]
    AddressInUse { address: SocketAddr, key: &'static str },
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        address: SocketAddr,
        key: &'static str,
        source: io::Error,
    },
    #[error("cannot take over the inherited sockets: {0}")]
    Inherit(io::Error),
    #[error("nothing to listen on: set listen.http in proxy.toml")]
    NoListener,
    #[error(
        "cannot read or raise the limit of descriptors of this process: {0}; set LimitNOFILE of its unit, or `ulimit -n`"
    )]
    Descriptors(io::Error),
    #[error(
        "limits.connections = {wanted} is more than the {left} that the limit of {descriptors} descriptors leaves beside those of \
         the proxy itself and of connections to sandboxes; set LimitNOFILE of its unit (or `ulimit -n`) to {needed}, or lower \
         limits.connections or limits.upstream_idle in proxy.toml"
    )]
    TooManyConnections {
        wanted: usize,
        left: usize,
        descriptors: u64,
        needed: u64,
    },
    #[error("cannot open the slot table: {source} (proxy.toml: slots)")]
    Slots { source: OpenError },
    #[error("user {0:?} does not exist; create it with `useradd --system {0}`, or set user in proxy.toml")]
    NoSuchUser(String),
    #[error("user = {0:?} is root; name a user without privileges in proxy.toml")]
    RootUser(String),
    #[error("cannot become user {user:?}: {source}")]
    Privileges { user: String, source: io::Error },
    #[error("cannot {doing} {path}: {source}; set data_dir in proxy.toml to a folder the proxy's user can write")]
    DataDir {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot use control at {server}: {source}")]
    Control { server: String, source: ClientError },
    #[error(
        "no proxy can be asked at {path} to make way: {source}; start one, or name the settings of the running one with --config"
    )]
    NoPredecessor { path: PathBuf, source: io::Error },
    #[error("cannot start a successor: {0}")]
    Successor(io::Error),
    #[error("the successor {why}; {before}")]
    NoSuccessor { why: String, before: Before },
    #[error("cannot take over from the running proxy: {0}")]
    HandOver(String),
    #[error("cannot declare the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot prepare the runtime: {0}")]
    Runtime(#[from] io::Error),
}

impl From<miren_fault::Fault> for StartError {
    fn from(fault: miren_fault::Fault) -> Self {
        Self::HandOver(fault.to_string())
    }
}

/// What is known of the proxy that was to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// It has not heard of it, or of a failure.
    Serves,
    /// None owns this folder.
    None(PathBuf),
    /// The settings do not say where one would be.
    Unknown,
}

impl std::fmt::Display for Before {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serves => write!(out, "the running proxy serves on"),
            Self::None(folder) => write!(
                out,
                "no proxy runs on {}: start one in place of an upgrade, or name the settings of the running one with --config",
                folder.display()
            ),
            Self::Unknown => write!(out, "nothing was changed: if a proxy runs, it serves on"),
        }
    }
}
