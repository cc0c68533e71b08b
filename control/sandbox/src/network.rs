//! Decides how sandboxes reach the world and are reached: one bridge, one namespace and one veth pair for each.

use crate::config::NodeConfig;
use miren_fault::{Fault, Point};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

mod chain;
mod egress;
mod events;
mod links;
mod names;
mod namespace;
mod nft;
mod places;
mod rules;
mod ruleset;
mod subnet;
mod surroundings;
mod sysctl;

pub use egress::{Connections, Destination, DestinationError, Egress, Tracking};
use links::Links;
pub(crate) use places::{NoPlace, Places};
use rules::Rules;
pub use rules::RulesStatus;
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
    #[error("the rules of the network need the program nft: install nftables (apt-get install nftables)")]
    NoNft,
    #[error(
        "nft refused the rules of this node: {0}; they need a kernel with nftables for ip and bridge (modules nf_tables, nft_fib_ipv4, nft_reject_ipv4, nft_masq, nft_limit)"
    )]
    Nft(String),
    #[error(
        "the kernel took the rules of this node and does not have them ({difference}): another program changes the tables ip and bridge {table}; `nft monitor` shows which"
    )]
    NotApplied { table: String, difference: String },
}

impl From<Fault> for NetworkError {
    fn from(fault: Fault) -> Self {
        let (doing, source) = ("setting up the network".to_owned(), fault.into());
        Self::Io { doing, source }
    }
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
    rules: Rules,
}

impl Network {
    /// Makes what the sandboxes share: bridge, backstop route, rules, forwarding. Repeating it changes nothing.
    pub(crate) async fn open(config: &NodeConfig) -> Result<Self, NetworkError> {
        if !names::is_interface(&config.bridge) {
            return Err(NetworkError::BridgeName(config.bridge.clone()));
        }
        let links = Links::open()?;
        let bridge_index = links.ensure_bridge(&config.bridge, &config.subnet).await?;
        // Before there is forwarding, and before what runs already is taken over.
        let rules = Rules::open(links.clone(), wanted(config)).await?;
        sysctl::allow_forwarding().map_err(NetworkError::io("switching net.ipv4.ip_forward on"))?;
        let namespaces = config.run_dir.join("netns");
        std::fs::create_dir_all(&namespaces).map_err(NetworkError::io(format!("creating {}", namespaces.display())))?;
        Ok(Self {
            node: config.name.clone(),
            bridge: config.bridge.clone(),
            bridge_index,
            subnet: config.subnet,
            namespaces,
            links,
            rules,
        })
    }

    /// Whether the rules hold.
    pub(crate) fn rules(&self) -> RulesStatus {
        self.rules.status()
    }

    /// Puts the rules back when somebody takes them away, for as long as it is polled.
    pub(crate) async fn watch_rules(&self) {
        self.rules.watch().await;
    }

    /// Where the namespace of a sandbox is.
    pub(crate) fn namespace(&self, sandbox: &str) -> PathBuf {
        self.namespaces.join(sandbox)
    }

    /// Makes an empty namespace.
    pub(crate) async fn create_namespace(&self, sandbox: &str) -> Result<(), NetworkError> {
        miren_fault::at(Point::CreateNamespace).await?;
        let path = self.namespace(sandbox);
        let doing = format!("creating the network namespace {}", path.display());
        blocking(move || namespace::create(&path))
            .await
            .map_err(NetworkError::io(doing))
    }

    /// Connects a namespace to the bridge: after this the sandbox of `slot` can be reached at `address`.
    pub(crate) async fn attach(&self, sandbox: &str, slot: u32, address: Ipv4Addr) -> Result<(), NetworkError> {
        miren_fault::at(Point::CreateNetwork).await?;
        // First: until the bridge knows its port, nothing it sends is passed on.
        self.rules.renew(slot).await?;
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
        miren_fault::at(Point::CleanNetwork).await?;
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
        nft::remove(&self.node).await?;
        self.links.delete_backstop(&self.subnet).await?;
        self.links.delete(&self.bridge).await?;
        crate::files::remove_dir_if_there(&self.namespaces)
            .map_err(NetworkError::io(format!("removing {}", self.namespaces.display())))
    }
}

/// What the operator's settings make of the rules.
fn wanted(config: &NodeConfig) -> ruleset::Wanted {
    let listeners = config.ingress.iter().filter_map(|listener| match listener {
        SocketAddr::V4(listener) => Some(*listener),
        // It takes IPv4 as well.
        SocketAddr::V6(listener) if listener.ip().is_unspecified() => {
            Some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, listener.port()))
        }
        SocketAddr::V6(_) => None,
    });
    ruleset::Wanted {
        node: config.name.clone(),
        bridge: config.bridge.clone(),
        subnet: config.subnet,
        ports: 0,
        egress: config.egress,
        allow: config.allow.clone(),
        ingress: listeners.collect(),
        tracking: config.tracking,
        connections: config.connections,
        around: surroundings::Surroundings::default(),
    }
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
