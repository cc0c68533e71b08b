//! Decides what network devices and tables of a node are called, so that two nodes on one machine never meet.

/// Length of interface names without the end mark (`IFNAMSIZ` - 1).
const INTERFACE_MAX: usize = 15;

/// Whether text can be the name of an interface.
pub(super) fn is_interface(name: &str) -> bool {
    (1..=INTERFACE_MAX).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// What the names of all veths of a node begin with.
pub(super) fn veth_prefix(node: &str) -> String {
    format!("mv{:08x}", hash(node))
}

/// Host side of the veth pair of a slot.
pub(super) fn veth(node: &str, slot: u32) -> String {
    format!("{}{slot:x}", veth_prefix(node))
}

/// The nftables table of a node. Node names are DNS labels, which have no '_': no two nodes get the same name.
pub(super) fn table(node: &str) -> String {
    format!("miren_{}", node.replace('-', "_"))
}

/// A locally administered hardware address that belongs to an IPv4 address, so that neighbour entries of an address
/// stay right when the next sandbox gets it.
pub(super) fn hardware_address(address: std::net::Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = address.octets();
    vec![0x02, 0x4d, a, b, c, d]
}

/// FNV-1a, 32 bits: the same on every machine and in every release.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn veth_names_are_stable_short_and_different() {
        assert_eq!(veth("miren", 17), "mvbf6eb25411");
        assert!(veth("a-node-with-a-long-name", 0xf_ffff).len() <= INTERFACE_MAX);
        assert_ne!(veth("one", 1), veth("two", 1));
        assert_ne!(veth("one", 1), veth("one", 2));
        assert!(veth("one", 1).starts_with(&veth_prefix("one")));
    }

    #[test]
    fn tables_of_different_nodes_differ() {
        assert_eq!(table("my-node"), "miren_my_node");
        assert_ne!(table("a-b"), table("ab"));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_no_interface_name() {
        assert!(is_interface("miren0"));
        for bad in ["", "a/b", "sixteen-letters-", "a b"] {
            assert!(!is_interface(bad), "{bad:?}");
        }
    }
}
