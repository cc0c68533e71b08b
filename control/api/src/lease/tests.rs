//! What a lease costs, and that daemons of the release before and of this one understand each other, whichever is upgraded first.

use super::*;
use crate::id::NodeId;
use crate::resource::SlotTransition;
use crate::routing::SandboxHint;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The messages of the release before, as it declared them: what it says, and what it refuses.
mod before {
    use crate::id::SandboxId;
    use serde::{Deserialize, Serialize};
    use std::net::SocketAddr;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct LeaseKey {
        pub slot: u32,
        pub generation: u64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Lease {
        #[serde(flatten)]
        pub key: LeaseKey,
        pub sandbox: SandboxId,
        pub endpoint: SocketAddr,
        pub capacity: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct HeldLease {
        pub slot: u32,
        pub generation: u64,
        pub in_flight: u32,
        #[serde(default)]
        pub capacity: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ReleasedLease {
        pub slot: u32,
        pub generation: u64,
        pub answer: u64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct RenewedLease {
        pub slot: u32,
        pub generation: u64,
        pub capacity: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct SandboxHint {
        pub slot: u32,
        pub generation: u64,
        pub state: String,
    }
}

/// What the release before says means the same here, and what is said here means the same there.
fn both_ways<Before, Now>(before: Before, now: Now)
where
    Before: Serialize + DeserializeOwned + PartialEq + Debug,
    Now: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let said = serde_json::to_value(&before).unwrap();
    assert_eq!(serde_json::from_value::<Now>(said.clone()).unwrap(), now);
    let answered = serde_json::to_value(&now).unwrap();
    assert_eq!(answered, said, "word for word");
    assert_eq!(serde_json::from_value::<Before>(answered).unwrap(), before);
}

const KEY: LeaseKey = LeaseKey {
    node: NodeId::FIRST,
    slot: 3,
    generation: 7,
};

#[test]
fn what_is_about_the_first_node_is_said_as_the_release_before_says_it() {
    let (slot, generation) = (KEY.slot, KEY.generation);
    let lease = Lease {
        key: KEY,
        sandbox: SandboxId::from_text("sb-1"),
        endpoint: "10.0.0.2:3000".parse().unwrap(),
        capacity: 4,
    };
    let before = before::Lease {
        key: before::LeaseKey { slot, generation },
        sandbox: lease.sandbox.clone(),
        endpoint: lease.endpoint,
        capacity: 4,
    };
    both_ways(before, lease);
    both_ways(before::LeaseKey { slot, generation }, KEY);
}

#[test]
fn what_a_proxy_says_of_the_first_node_is_what_one_of_the_release_before_says() {
    let (slot, generation) = (KEY.slot, KEY.generation);
    let held = HeldLease {
        node: NodeId::FIRST,
        slot,
        generation,
        in_flight: 1,
        capacity: 4,
        tunnels: 0,
    };
    let (in_flight, capacity) = (1, 4);
    both_ways(
        before::HeldLease {
            slot,
            generation,
            in_flight,
            capacity,
        },
        held,
    );
    both_ways(
        before::ReleasedLease {
            slot,
            generation,
            answer: 9,
        },
        KEY.released(9),
    );
    let renewed = RenewedLease {
        node: NodeId::FIRST,
        slot,
        generation,
        capacity,
    };
    both_ways(
        before::RenewedLease {
            slot,
            generation,
            capacity,
        },
        renewed,
    );
    let state = "DRAINING".to_owned();
    let hint = SandboxHint {
        node: NodeId::FIRST,
        slot,
        generation,
        state: state.clone(),
    };
    both_ways(
        before::SandboxHint {
            slot,
            generation,
            state,
        },
        hint,
    );
}

#[test]
fn every_message_about_another_node_names_it_and_keeps_it_over_every_turn() {
    let node: NodeId = "node-2".parse().unwrap();
    let other = LeaseKey { node, ..KEY };
    assert_ne!(other, KEY);
    let text = serde_json::to_string(&other).unwrap();
    assert_eq!(text, r#"{"node":"node-2","slot":3,"generation":7}"#);
    assert_eq!(serde_json::from_str::<LeaseKey>(&text).unwrap(), other);
    assert_eq!(other.released(9).key(), other);
    let held: HeldLease =
        serde_json::from_str(r#"{"node":"node-2","slot":3,"generation":7,"in_flight":0,"capacity":1}"#).unwrap();
    assert_eq!(held.key(), other);
    let renewed: RenewedLease =
        serde_json::from_str(r#"{"node":"node-2","slot":3,"generation":7,"capacity":1}"#).unwrap();
    assert_eq!(renewed.key(), other);
    let told = r#"{"node":"node-2","slot":3,"generation":7,"state":"DEAD","by":"kernel","at_ns":1}"#;
    let transition: SlotTransition = serde_json::from_str(told).unwrap();
    assert_eq!(serde_json::to_string(&transition).unwrap(), told);
}

/// It is hashed and compared with every request.
#[test]
fn the_node_in_the_key_of_a_lease_takes_no_room_and_no_allocation() {
    fn is_copied<T: Copy>() {}
    is_copied::<LeaseKey>();
    assert_eq!(size_of::<LeaseKey>(), size_of::<(u32, u64)>());
}

/// A control of the release before refuses a field it does not know, so a proxy says none before it is told that it may.
#[test]
fn tunnels_are_said_to_a_control_that_hears_of_them_and_to_no_other() {
    #[derive(serde::Deserialize)]
    struct RenewResponseBefore {
        ttl_ms: u64,
    }
    let held = HeldLease {
        node: NodeId::FIRST,
        slot: 3,
        generation: 7,
        in_flight: 2,
        capacity: 4,
        tunnels: 1,
    };
    let said = serde_json::to_value(held).unwrap();
    assert!(serde_json::from_value::<before::HeldLease>(said.clone()).is_err());
    assert_eq!(serde_json::from_value::<HeldLease>(said).unwrap(), held);
    let silent = serde_json::to_value(HeldLease { tunnels: 0, ..held }).unwrap();
    assert!(serde_json::from_value::<before::HeldLease>(silent).is_ok());
    let answer = r#"{"renewed":[],"lost":[],"ttl_ms":1}"#;
    let answer: RenewResponse = serde_json::from_str(answer).unwrap();
    assert!(!answer.hears_tunnels, "the release before does not say so");
    let now = RenewResponse {
        hears_tunnels: true,
        ..answer
    };
    let overlooked: RenewResponseBefore = serde_json::from_value(serde_json::to_value(now).unwrap()).unwrap();
    assert_eq!(overlooked.ttl_ms, 1);
}
