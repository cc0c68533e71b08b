//! Decides what something that is no sandbox gets of the node: a network and a cgroup of its own, for as long as it is held.
//!
//! Nothing leads to its address: no slot says that it is RUNNING.

use crate::bundle::resolvers;
use crate::node::Node;
use miren_gate::Permit;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Begins the names of outlets, which no sandbox's does.
const PREFIX: &str = "outlet-";

/// A way to the world; taken away, with all processes that use its cgroup, when it is dropped.
pub struct Outlet {
    /// The network namespace.
    pub network: PathBuf,
    /// Below the root of every hierarchy.
    pub cgroup: String,
    /// Name servers that can be reached from here, in the form of `resolv.conf`.
    pub resolvers: String,
    held: Option<Held>,
}

/// What uses a node and is no sandbox.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Uses {
    Outlet,
}

impl miren_gate::Class for Uses {
    const ALL: &'static [Self] = &[Self::Outlet];

    fn index(self) -> usize {
        self as usize
    }
}

/// What it takes from the node.
struct Held {
    node: Arc<Node>,
    name: String,
    slot: u32,
    runtime: Handle,
    /// The node is not removed before this is dropped.
    used: Permit<Uses>,
}

impl Outlet {
    pub(crate) async fn open(node: &Arc<Node>) -> Result<Self, String> {
        let used = node.uses.enter(Uses::Outlet);
        let used = used.map_err(|_| "the node is being removed".to_owned())?;
        let name = format!("{PREFIX}{:016x}", rand::random::<u64>());
        let (slot, address) = node.take_place().map_err(|full| full.to_string())?;
        let network = node.network.namespace(&name);
        let outlet = Self {
            network,
            cgroup: node.cgroups.path(&name),
            resolvers: resolvers(Path::new("/")),
            held: Some(Held {
                node: Arc::clone(node),
                name: name.clone(),
                slot,
                runtime: Handle::current(),
                used,
            }),
        };
        // From here on a failure takes away what there is.
        let failed = |error: &dyn Display| error.to_string();
        node.network.create_namespace(&name).await.map_err(|e| failed(&e))?;
        let attached = node.network.attach(&name, slot, address).await;
        attached.map_err(|e| failed(&e))?;
        Ok(outlet)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let runtime = held.runtime.clone();
            let _entered = runtime.enter();
            miren_log::spawn("what a build used", held.give_back());
        }
    }
}

impl Held {
    async fn give_back(self) {
        if let Err(why) = self.node.clean(&self.name, Some(self.slot)).await {
            tracing::warn!(name = self.name, why, "what a build used stays until the next start");
        }
        self.node.give_back_place(self.slot);
        drop(self.used);
    }
}
