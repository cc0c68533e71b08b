//! Decides how sandboxes reach the world and are reached: one bridge, one namespace and one veth pair for each.

use crate::config::NodeConfig;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

mod links;
mod masquerade;
mod names;
mod namespace;
mod places;
mod subnet;

use links::Links;
pub(crate) use places::{NoPlace, Places};
pub use subnet::{Subnet, SubnetError};

/// What went wrong, and with which thing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("{doing}: {source}")]
    Netlink { doing: String, source: rtnetlink::Error },
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error(
        "bridge {bridge} has the address {found}, not {wanted}: stop its sandboxes and delete it (ip link delete {bridge}), or set network.bridge to another name"
    )]
    OtherSubnet {
        bridge: String,
        found: Ipv4Addr,
        wanted: Ipv4Addr,
    },
    #[error("network.bridge {0:?}: a name of a network interface has 1 to 15 letters, digits, '-' and '_'")]
    BridgeName(String),
    #[error("masquerading needs the program nft: install nftables (apt-get install nftables)")]
    NoNft,
    #[error("nft refused the rules of this node: {0}")]
    Nft(String),
}

impl NetworkError {
    fn netlink(doing: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Netlink { doing, source }
    }

    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// The network of one node.
#[derive(Debug)]
pub(crate) struct Network {
    node: String,
    bridge: String,
    bridge_index: u32,
    subnet: Subnet,
    namespaces: PathBuf,
    links: Links,
}

impl Network {
    /// Makes what the sandboxes share: bridge, backstop route, masquerading, forwarding. Repeating it changes nothing.
    pub(crate) async fn open(config: &NodeConfig) -> Result<Self, NetworkError> {
        if !names::is_interface(&config.bridge) {
            return Err(NetworkError::BridgeName(config.bridge.clone()));
        }
        let links = Links::open()?;
        let bridge_index = links.ensure_bridge(&config.bridge, &config.subnet).await?;
        masquerade::allow_forwarding()?;
        masquerade::install(&config.name, &config.subnet).await?;
        let namespaces = config.run_dir.join("netns");
        std::fs::create_dir_all(&namespaces).map_err(NetworkError::io(format!("creating {}", namespaces.display())))?;
        Ok(Self {
            node: config.name.clone(),
            bridge: config.bridge.clone(),
            bridge_index,
            subnet: config.subnet,
            namespaces,
            links,
        })
    }

    /// Where the namespace of a sandbox is.
    pub(crate) fn namespace(&self, sandbox: &str) -> PathBuf {
        self.namespaces.join(sandbox)
    }

    /// Makes an empty namespace.
    pub(crate) async fn create_namespace(&self, sandbox: &str) -> Result<(), NetworkError> {
        let path = self.namespace(sandbox);
        let doing = format!("creating the network namespace {}", path.display());
        blocking(move || namespace::create(&path))
            .await
            .map_err(NetworkError::io(doing))
    }

    /// Connects a namespace to the bridge: after this the sandbox of `slot` can be reached at `address`.
    pub(crate) async fn attach(&self, sandbox: &str, slot: u32, address: Ipv4Addr) -> Result<(), NetworkError> {
        let port = links::Port {
            name: names::veth(&self.node, slot),
            bridge: self.bridge_index,
            address,
            subnet: self.subnet,
        };
        self.links.attach(&port, &self.namespace(sandbox)).await
    }

    /// Removes the veth of a slot and the namespace of its sandbox. What is gone already is no error.
    pub(crate) async fn detach(&self, sandbox: &str, slot: Option<u32>) -> Result<(), NetworkError> {
        if let Some(slot) = slot {
            self.links.delete(&names::veth(&self.node, slot)).await?;
        }
        let path = self.namespace(sandbox);
        let doing = format!("removing the network namespace {}", path.display());
        blocking(move || namespace::remove(&path))
            .await
            .map_err(NetworkError::io(doing))
    }

    /// Sandboxes that have a namespace.
    pub(crate) fn found_namespaces(&self) -> Result<Vec<String>, NetworkError> {
        crate::files::names_in(&self.namespaces)
            .map_err(NetworkError::io(format!("reading {}", self.namespaces.display())))
    }

    /// Removes the veths of this node whose slot is not in use.
    pub(crate) async fn remove_veths_except(&self, used: &[u32]) -> Result<(), NetworkError> {
        let prefix = names::veth_prefix(&self.node);
        let kept: Vec<String> = used.iter().map(|slot| names::veth(&self.node, *slot)).collect();
        for name in self.links.names_with_prefix(&prefix).await? {
            if !kept.contains(&name) {
                tracing::info!(interface = %name, "removing a veth that belongs to no sandbox");
                self.links.delete(&name).await?;
            }
        }
        Ok(())
    }

    /// Removes what [`Network::open`] made. Forwarding stays on: others may rely on it by now.
    pub(crate) async fn remove(&self) -> Result<(), NetworkError> {
        masquerade::remove(&self.node).await?;
        self.links.delete_backstop(&self.subnet).await?;
        self.links.delete(&self.bridge).await?;
        crate::files::remove_dir_if_there(&self.namespaces)
            .map_err(NetworkError::io(format!("removing {}", self.namespaces.display())))
    }
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
