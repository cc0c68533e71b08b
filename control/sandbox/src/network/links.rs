//! Decides which netlink messages make a bridge and connect a namespace to it.

use super::{NetworkError, Subnet, blocking, names, namespace, sysctl};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Metric of the backstop route: any other route to the subnet is better.
const BACKSTOP_METRIC: u32 = 9999;
/// What the interface is called inside a sandbox.
const INSIDE: &str = "eth0";

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub(super) struct Links(Handle);

/// One port of the bridge, and what is at its other end.
pub(super) struct Port {
    pub(super) name: String,
    pub(super) bridge: u32,
    pub(super) address: Ipv4Addr,
    pub(super) subnet: Subnet,
}

impl Links {
    pub(super) fn open() -> Result<Self, NetworkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(NetworkError::io("opening a netlink socket"))?;
        miren_log::spawn("the netlink socket", connection);
        Ok(Self(handle))
    }

    async fn index(&self, name: &str) -> Result<Option<u32>, Error> {
        index(&self.0, name).await
    }

    /// The bridge, with the gateway's address, and the backstop behind it.
    pub(super) async fn ensure_bridge(&self, name: &str, subnet: &Subnet) -> Result<u32, NetworkError> {
        let doing = || NetworkError::netlink(format!("setting up the bridge {name}"));
        let index = match self.index(name).await.map_err(doing())? {
            Some(index) => index,
            None => {
                // A fixed hardware address: else the bridge takes that of its lowest port, and changes it with them.
                let link = LinkBridge::new(name).address(names::hardware_address(subnet.gateway()));
                self.0.link().add(link.build()).execute().await.map_err(doing())?;
                let made = self.index(name).await.map_err(doing())?;
                made.ok_or_else(|| doing()(Error::RequestFailed))?
            }
        };
        // Before it is up: an interface that was never up without has no link-local address.
        sysctl::without_ipv6(name).map_err(NetworkError::io(format!("switching IPv6 off on the bridge {name}")))?;
        match self.first_address(index).await.map_err(doing())? {
            None => {
                let gateway = IpAddr::V4(subnet.gateway());
                self.0
                    .address()
                    .add(index, gateway, subnet.prefix())
                    .execute()
                    .await
                    .map_err(doing())?;
            }
            Some(found) if found != subnet.gateway() => {
                let (bridge, wanted) = (name.to_owned(), subnet.gateway());
                return Err(NetworkError::OtherSubnet { bridge, found, wanted });
            }
            Some(_) => {}
        }
        let up = LinkUnspec::new_with_index(index).up().build();
        self.0.link().set(up).execute().await.map_err(doing())?;
        self.ensure_backstop(subnet).await?;
        Ok(index)
    }

    async fn first_address(&self, index: u32) -> Result<Option<Ipv4Addr>, Error> {
        let mut addresses = self.0.address().get().set_link_index_filter(index).execute();
        while let Some(message) = addresses.try_next().await? {
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            if local.is_some() {
                return Ok(local);
            }
        }
        Ok(None)
    }

    /// Without it, packets to a sandbox would leave by the default route while the bridge is down or gone.
    async fn ensure_backstop(&self, subnet: &Subnet) -> Result<(), NetworkError> {
        let added = self.0.route().add(backstop(subnet)).execute().await;
        match added {
            Err(error) if errno(&error) != libc::EEXIST => Err(NetworkError::netlink(format!(
                "adding the backstop route of {subnet}"
            ))(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn delete_backstop(&self, subnet: &Subnet) -> Result<(), NetworkError> {
        let deleted = self.0.route().del(backstop(subnet)).execute().await;
        match deleted {
            Err(error) if errno(&error) != libc::ESRCH => Err(NetworkError::netlink(format!(
                "deleting the backstop route of {subnet}"
            ))(error)),
            _ => Ok(()),
        }
    }

    /// A veth pair from the bridge into the namespace. Ports are isolated: sandboxes reach the host, not each other.
    pub(super) async fn attach(&self, port: &Port, namespace: &Path) -> Result<(), NetworkError> {
        let doing = || NetworkError::netlink(format!("creating the veth {}", port.name));
        let file = File::open(namespace).map_err(NetworkError::io(format!("opening {}", namespace.display())))?;
        let inside = LinkMessageBuilder::<LinkUnspec>::new()
            .name(INSIDE)
            .address(names::hardware_address(port.address))
            .append_extra_attribute(LinkAttribute::NetNsFd(file.as_raw_fd()))
            .build();
        let pair = LinkVeth::new(&port.name, INSIDE)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inside)))
            .controller(port.bridge)
            .up();
        self.0.link().add(pair.build()).execute().await.map_err(doing())?;
        let index = self.index(&port.name).await.map_err(doing())?;
        let index = index.ok_or_else(|| doing()(Error::RequestFailed))?;
        // What it takes as its own, and not as the bridge's, nobody filters.
        sysctl::without_ipv6(&port.name).map_err(NetworkError::io(format!("switching IPv6 off on {}", port.name)))?;
        let isolated = LinkBridgePort::new(index).isolated(true).build();
        self.0.link().set_port(isolated).execute().await.map_err(doing())?;
        self.remember_neighbour(port).await?;
        let (path, address, subnet) = (namespace.to_owned(), port.address, port.subnet);
        blocking(move || namespace::run_in(&path, move || configure(address, subnet)))
            .await
            .map_err(NetworkError::io(format!(
                "setting up the network inside {}",
                namespace.display()
            )))
    }

    /// The bridge knows the sandbox's hardware address for good: the packet hook sees what is sent to a sandbox whose
    /// network has vanished (K4) only if nobody has to be asked for it. The entry goes with the bridge; each address has
    /// one hardware address for ever, so an old entry is a right one.
    async fn remember_neighbour(&self, port: &Port) -> Result<(), NetworkError> {
        let hardware = names::hardware_address(port.address);
        let neighbours = self.0.neighbours();
        let entry = neighbours
            .add(port.bridge, IpAddr::V4(port.address))
            .link_layer_address(&hardware);
        let added = entry.state(NeighbourState::Permanent).replace().execute().await;
        added.map_err(NetworkError::netlink(format!(
            "remembering the neighbour {}",
            port.address
        )))
    }

    /// Deletes an interface, if it is there.
    pub(super) async fn delete(&self, name: &str) -> Result<(), NetworkError> {
        let doing = || NetworkError::netlink(format!("deleting the interface {name}"));
        let Some(index) = self.index(name).await.map_err(doing())? else {
            return Ok(());
        };
        match self.0.link().del(index).execute().await {
            Err(error) if errno(&error) != libc::ENODEV => Err(doing()(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn names_with_prefix(&self, prefix: &str) -> Result<Vec<String>, NetworkError> {
        let mut found = self.all().await?;
        found.retain(|(name, _)| name.starts_with(prefix));
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    /// Names of the bridges of this machine, whoever made them.
    pub(super) async fn bridges(&self) -> Result<Vec<String>, NetworkError> {
        let mut found = self.all().await?;
        found.retain(|(_, link)| is_bridge(link));
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    async fn all(&self) -> Result<Vec<(String, LinkMessage)>, NetworkError> {
        let doing = || NetworkError::netlink("listing network interfaces");
        let mut found = Vec::new();
        let mut links = self.0.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(doing())? {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            found.extend(name.map(|name| (name, link)));
        }
        Ok(found)
    }
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}

fn backstop(subnet: &Subnet) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(subnet.network(), subnet.prefix())
        .kind(RouteType::Unreachable)
        .priority(BACKSTOP_METRIC)
        .build()
}

async fn index(handle: &Handle, name: &str) -> Result<Option<u32>, Error> {
    match handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await
    {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(error) if errno(&error) == libc::ENODEV => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel's answer; 0 when it was something else that failed.
fn errno(error: &Error) -> i32 {
    match error {
        Error::NetlinkError(message) => message.raw_code().abs(),
        _ => 0,
    }
}

/// Runs inside the namespace, on a thread of its own with a runtime of its own: its socket belongs to that namespace.
fn configure(address: Ipv4Addr, subnet: Subnet) -> io::Result<()> {
    sysctl::only_loopback_has_ipv6()?;
    sysctl::ports_are_free()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = miren_log::spawn("the netlink socket of a sandbox", connection);
        let configured = configure_links(&handle, address, subnet).await;
        connection.abort();
        configured.map_err(io::Error::other)
    })
}

async fn configure_links(handle: &Handle, address: Ipv4Addr, subnet: Subnet) -> Result<(), Error> {
    for name in ["lo", INSIDE] {
        let index = index(handle, name).await?.ok_or(Error::RequestFailed)?;
        if name == INSIDE {
            handle
                .address()
                .add(index, IpAddr::V4(address), subnet.prefix())
                .execute()
                .await?;
        }
        handle
            .link()
            .set(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await?;
    }
    let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(subnet.gateway()).build();
    handle.route().add(default).execute().await
}
