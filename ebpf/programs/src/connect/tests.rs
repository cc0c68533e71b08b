//! Decides that a sandbox is kept from others and not from itself.

use super::*;

#[test]
fn f18_the_node_and_other_sandboxes_are_refused_and_nobody_else() {
    let owner = SlotRef::new(4, 7);
    let cases = [
        (Caller::Node, true),
        (Caller::Sandbox(SlotRef::new(5, 7)), true),
        (Caller::Sandbox(owner), false),
        (Caller::Stranger, false),
    ];
    for (caller, refused) in cases {
        assert_eq!(is_refused(&owner, &caller), refused, "{caller:?}");
    }
}

#[test]
fn f18_an_earlier_life_of_the_slot_is_another_sandbox() {
    let (earlier, owner) = (SlotRef::new(4, 6), SlotRef::new(4, 7));
    assert!(is_refused(&owner, &Caller::Sandbox(earlier)));
}
