//! Decides when the rules of the node are made anew: when what they are made of has changed, and when somebody took them away.

use super::egress::Connections;
use super::links::Links;
use super::nft::{self, Listing};
use super::ruleset::Wanted;
use super::surroundings::Surroundings;
use super::{NetworkError, events, names};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Slots whose ports are made known to the kernel at a time.
const BLOCK: u32 = 256;
/// Changes that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(50);
/// First and longest pause before rules that could not be put back are tried again.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Whether the rules of a node hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesStatus {
    /// The kernel has them, as far as is known.
    pub applied: bool,
    /// How often they were gone or changed, and put back.
    pub restored: u64,
}

/// The rules that the kernel was seen to have.
#[derive(Debug)]
pub(super) struct Rules {
    links: Links,
    applied: Mutex<Applied>,
    holds: AtomicBool,
    restored: AtomicU64,
}

#[derive(Debug)]
struct Applied {
    wanted: Wanted,
    listing: Listing,
}

impl Rules {
    /// Puts them in place. `wanted.around` and `wanted.ports` are filled in here.
    pub(super) async fn open(links: Links, mut wanted: Wanted) -> Result<Self, NetworkError> {
        wanted.around = surroundings(&links, &wanted).await?;
        let prefix = names::veth_prefix(&wanted.node);
        let there = links.names_with_prefix(&prefix).await?;
        let slots = there
            .iter()
            .filter_map(|name| u32::from_str_radix(name.strip_prefix(&prefix)?, 16).ok());
        wanted.ports = blocks(&wanted, slots.max().unwrap_or(0));
        let applied = first(wanted, async |wanted| nft::apply(wanted).await).await?;
        Ok(Self {
            links,
            applied: Mutex::new(applied),
            holds: AtomicBool::new(true),
            restored: AtomicU64::new(0),
        })
    }

    pub(super) fn status(&self) -> RulesStatus {
        RulesStatus {
            applied: self.holds.load(Ordering::Relaxed),
            restored: self.restored.load(Ordering::Relaxed),
        }
    }

    /// Sees to it that they are right for a machine as it is now, and for a sandbox in `slot`.
    pub(super) async fn renew(&self, slot: u32) -> Result<(), NetworkError> {
        let mut applied = self.applied.lock().await;
        let mut wanted = applied.wanted.clone();
        wanted.around = surroundings(&self.links, &wanted).await?;
        wanted.ports = wanted.ports.max(blocks(&wanted, slot));
        if wanted != applied.wanted || !self.holds.load(Ordering::Relaxed) {
            let listing = nft::apply(&wanted).await?;
            *applied = Applied { wanted, listing };
            self.holds.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads them back; puts them back if they are not what they were.
    async fn check(&self) -> Result<(), NetworkError> {
        let mut applied = self.applied.lock().await;
        let found = nft::read(&applied.wanted.node).await?;
        let difference = match &found {
            Some(found) => applied.listing.difference(found),
            None => Some("the tables are gone".to_owned()),
        };
        let Some(difference) = difference else {
            return Ok(());
        };
        self.holds.store(false, Ordering::Relaxed);
        let table = names::table(&applied.wanted.node);
        tracing::warn!(
            table,
            difference,
            "somebody removed or changed the network rules of this node; putting them back"
        );
        applied.listing = nft::apply(&applied.wanted).await?;
        self.holds.store(true, Ordering::Relaxed);
        self.restored.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Looks after them for as long as it is polled.
    pub(super) async fn watch(&self) {
        let node = self.applied.lock().await.wanted.node.clone();
        let mut events = match events::Events::of(&names::table(&node)) {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(%error, "changes of network rules cannot be watched: rules that are removed stay away until the next start");
                return;
            }
        };
        loop {
            let mut pause = RETRY;
            while let Err(error) = self.look().await {
                tracing::error!(%error, "sandboxes and builds are not held to network.egress; trying again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(RETRY_MAX);
            }
            events.next().await;
            tokio::time::sleep(TOGETHER).await;
            events.skip();
        }
    }

    async fn look(&self) -> Result<(), NetworkError> {
        self.check().await?;
        self.renew(0).await
    }
}

/// Rules that count what sandboxes have tracked, or where the kernel does not take these, the others.
async fn first(
    mut wanted: Wanted,
    apply: impl AsyncFn(&Wanted) -> Result<Listing, NetworkError>,
) -> Result<Applied, NetworkError> {
    let refused = match apply(&wanted).await {
        Ok(listing) => return Ok(Applied { wanted, listing }),
        Err(refused) => refused,
    };
    wanted.connections = Connections::Uncounted;
    match apply(&wanted).await {
        Ok(listing) => {
            tracing::warn!(
                error = %refused,
                "the kernel does not count the connections of a sandbox, and one could fill the machine's table of them: \
                 network.connections needs the module nft_connlimit"
            );
            Ok(Applied { wanted, listing })
        }
        Err(_) => Err(refused),
    }
}

async fn surroundings(links: &Links, wanted: &Wanted) -> Result<Surroundings, NetworkError> {
    let bridges = links.bridges().await?;
    let around = Surroundings::read(&bridges).map_err(NetworkError::io("reading the routing table"))?;
    Ok(around.limited_to(&wanted.allow))
}

/// How many ports there are to be for `slot` to be among them.
fn blocks(wanted: &Wanted, slot: u32) -> u32 {
    let enough = (slot / BLOCK + 1).saturating_mul(BLOCK);
    enough.min(wanted.subnet.sandboxes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::egress::{Egress, Tracking};

    fn wanted() -> Wanted {
        Wanted {
            node: "node".into(),
            bridge: "miren0".into(),
            subnet: "10.200.8.0/24".parse().expect("a subnet"),
            ports: 0,
            egress: Egress::Internet,
            allow: Vec::new(),
            ingress: Vec::new(),
            tracking: Tracking::Egress,
            connections: Connections::Share,
            around: Surroundings::default(),
        }
    }

    /// A kernel that refuses scripts with any of these words.
    async fn open(unknown: &[&str]) -> Result<Applied, NetworkError> {
        let kernel = async |wanted: &Wanted| {
            let script = wanted.script(false);
            match unknown.iter().find(|words| script.contains(**words)) {
                Some(words) => Err(NetworkError::Nft((*words).to_owned())),
                None => Ok(Listing::default()),
            }
        };
        first(wanted(), kernel).await
    }

    #[tokio::test]
    async fn f2_a_kernel_that_does_not_count_gets_the_other_rules() {
        let connections = async |unknown: &[&str]| open(unknown).await.map(|applied| applied.wanted.connections);
        assert_eq!(connections(&[]).await.expect("all"), Connections::Share);
        assert_eq!(
            connections(&["ct count"]).await.expect("the others"),
            Connections::Uncounted
        );
        let refused = open(&["ct count", "masquerade"]).await.expect_err("not even these");
        assert!(refused.to_string().contains("ct count"), "the first reason: {refused}");
    }
}
