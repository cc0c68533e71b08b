//! Decides whether a table of a release that knew no namespaces goes on, with all that runs in it (F18, K6).

use miren_loader::{Mode, State};

use crate::{
    f18_namespaces::{Node, REFUSED, connect},
    lab::Lab,
    network::address_of,
};

#[test]
fn f18_a_table_without_namespaces_is_adopted_with_its_sandboxes() {
    let node = Node::new();
    let lab = Lab::new();
    let [listener, _] = &node.listeners;
    let old = node.open(&lab, Mode::Kernel);
    let generation = node.begin(&old, listener);
    old.advance(0, generation, State::Draining).expect("advance");
    let before = [0, 1].map(|slot| old.slot(slot));
    drop(old);
    std::fs::remove_file(lab.pin_dir.join("SANDBOX_BY_NETNS")).expect("unpinning what was not there");

    let new = node.open(&lab, Mode::Kernel);
    assert_eq!([0, 1].map(|slot| new.slot(slot)), before, "what runs is what ran");
    let to = address_of(listener);
    assert_eq!(connect(&node.sandboxes[0].namespace, to), [Ok(()); 2], "itself");
    assert_eq!(connect(&node.sandboxes[1].namespace, to), [REFUSED; 2], "the other");
    assert_eq!(connect(&node.host.namespace, to), [REFUSED; 2], "the node");
    assert!(
        lab.pin_dir.join("SANDBOX_BY_NETNS").exists(),
        "the next daemon finds it"
    );
}
