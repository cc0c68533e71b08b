//! Decides who may not open a connection to a sandbox that takes no new ones.

use miren_abi::SlotRef;

#[cfg(test)]
mod tests;

/// Whose network namespace a connection is opened in. The same address is another machine in another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The namespace that has the bridge: proxies, control, whatever else runs on the node.
    Node,
    /// The namespace of one of the node's sandboxes.
    Sandbox(SlotRef),
    /// Any other. Should it reach the sandbox all the same, its packets come through the bridge.
    Stranger,
}

/// Whether `caller` is refused a connection to an address of `owner`, which is DRAINING or later. A sandbox always reaches
/// itself.
#[inline(always)]
pub fn is_refused(owner: &SlotRef, caller: &Caller) -> bool {
    match caller {
        Caller::Node => true,
        Caller::Sandbox(sandbox) => sandbox.slot != owner.slot || sandbox.generation != owner.generation,
        Caller::Stranger => false,
    }
}
