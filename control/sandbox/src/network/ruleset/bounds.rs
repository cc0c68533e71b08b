//! Decides how much of the machine's table of tracked connections a sandbox may fill, and what neighbours may begin with one.

use super::{FILTER, REFUSED, Wanted};
use crate::network::chain::Chain;
use crate::network::egress::Connections;

/// After every rule that says who may reach whom: what is refused there is counted for nobody.
const AFTER_FILTER: i32 = FILTER + 1;
/// `nf_conntrack_max` of a machine with 1 GiB of memory and more, which is asked for before the kernel tracks anything.
const USUAL_TABLE: u32 = 262_144;
const SHARE: u32 = 32;
/// New ones a second, of those that may be open. What is closed stays in the table for 120 s (`nf_conntrack_tcp_timeout_time_wait`)
/// and counts for nobody, so that after the first `n` at once there are six times `n` of these at most.
const PACE: u32 = 20;

impl Wanted {
    /// Most connections and flows of one address that are tracked at a time. None: they are not counted.
    pub(super) fn share(&self) -> Option<u32> {
        match self.connections {
            Connections::Share => Some((self.around.table.unwrap_or(USUAL_TABLE) / SHARE).max(PACE)),
            Connections::AtMost(most) => Some(most.get()),
            Connections::Uncounted => None,
        }
    }

    /// The declarations of what is counted, by address. What is in a set keeps the bound that it was put in with, so the bound is
    /// part of the name.
    pub(super) fn counters(&self, table: &str) -> Vec<String> {
        let Some(share) = self.share() else { return Vec::new() };
        let size = self.subnet.sandboxes();
        ["flows", "paces"]
            .map(|kind| format!("set ip {table} {kind}_{share} {{ type ipv4_addr; size {size}; flags dynamic; }}"))
            .to_vec()
    }

    /// The first packet of each connection and flow that is going to be tracked.
    pub(super) fn begin(&self) -> Vec<Chain> {
        let Some(share) = self.share() else { return Vec::new() };
        let mut bounds = Chain::new("bounds");
        let pace = share.div_ceil(PACE);
        bounds.rule(
            "too many a second",
            format!("add @paces_{share} {{ ip saddr limit rate over {pace}/second burst {share} packets }} {REFUSED}"),
        );
        bounds.rule(
            "too many at a time",
            format!("add @flows_{share} {{ ip saddr ct count over {share} }} {REFUSED}"),
        );
        let first = format!(
            "iifname \"{}\" ct state new ct status & confirmed == 0 jump bounds",
            self.bridge
        );
        let begins = |name, hook| {
            let mut chain = Chain::new(name).at("filter", hook, AFTER_FILTER);
            chain.rule("begins", first.clone());
            chain
        };
        vec![bounds, begins("begin_in", "input"), begins("begin_out", "forward")]
    }

    /// What other machines and bridges send to sandboxes: answers, and what somebody's rule leads there.
    pub(super) fn inward(&self) -> Chain {
        let mut chain = Chain::new("inward");
        chain.rule("answers", "ct state established,related accept");
        chain.rule("led here", "ct status dnat accept");
        chain.rule("around the ingress", REFUSED);
        chain
    }
}
