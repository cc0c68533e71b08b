//! What is kept of a node: one record, whatever it is called, and whether it takes new work over every restart.

use crate::memory::Memory;
use jiff::Timestamp;
use miren_api::id::NodeId;
use miren_control::fatal::Fatal;
use miren_control::ledger;
use miren_control::nodes::Nodes;
use miren_control::record::NodeRecord;
use miren_control::store::{Expect, Key, Kind, Selection, Store, StoreError, Write};
use std::sync::Arc;

const BEGAN: &str = "2026-11-22T08:00:00Z";

async fn load(store: &Arc<Memory>, name: &str, now: &str) -> Nodes {
    let now: Timestamp = now.parse().unwrap();
    let store = Arc::clone(store) as Arc<dyn Store>;
    Nodes::load(store, name, now, Fatal::default()).await.unwrap()
}

async fn kept(store: &Memory) -> Vec<NodeRecord> {
    ledger::list(store, Selection::All).await.unwrap()
}

#[tokio::test]
async fn a_store_has_its_node_from_the_first_start_on_whatever_it_is_called_later() {
    let store = Arc::new(Memory::new(100));
    assert_eq!(load(&store, "berlin", BEGAN).await.own(), NodeId::FIRST);
    let first = NodeRecord {
        id: NodeId::FIRST,
        name: "berlin".into(),
        created_at: BEGAN.parse().unwrap(),
        cordoned: false,
        drain: None,
    };
    assert_eq!(kept(&store).await, std::slice::from_ref(&first));
    let before = *store.revision().borrow();
    load(&store, "berlin", "2026-11-23T08:00:00Z").await;
    assert_eq!(*store.revision().borrow(), before, "nothing was to be written");
    let renamed = load(&store, "munich", "2026-11-24T08:00:00Z").await;
    assert_eq!(renamed.own(), NodeId::FIRST);
    let name = "munich".into();
    assert_eq!(kept(&store).await, [NodeRecord { name, ..first }]);
}

#[tokio::test]
async fn a_cordon_is_told_once_it_is_kept_and_outlives_a_restart() {
    let store = Arc::new(Memory::new(100));
    let nodes = load(&store, "berlin", BEGAN).await;
    let mut told = nodes.follow();
    assert_eq!(nodes.cordon(true).await, Ok(true));
    assert!(told.has_changed().unwrap() && told.borrow_and_update().cordoned);
    assert_eq!(nodes.cordon(true).await, Ok(false), "it is already");
    assert!(!told.has_changed().unwrap());
    let nodes = load(&store, "berlin", BEGAN).await;
    assert!(nodes.follow().borrow().cordoned);
    assert_eq!(nodes.cordon(false).await, Ok(true));
    assert!(!kept(&store).await[0].cordoned);
}

#[tokio::test]
async fn a_node_whose_record_somebody_else_wrote_ends_the_process() {
    let store = Arc::new(Memory::new(100));
    let fatal = Fatal::default();
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let now = BEGAN.parse().unwrap();
    let nodes = Nodes::load(shared, "berlin", now, fatal.clone()).await.unwrap();
    let key = Key::new(Kind::Node, "node-1");
    let at = store.get(&key).await.unwrap().unwrap().revision;
    let foreign = Write {
        key: key.clone(),
        expect: Expect::Revision(at),
        content: None,
    };
    store.commit(vec![foreign]).await.unwrap();
    assert_eq!(nodes.cordon(true).await, Err(StoreError::Conflict { key }));
    assert!(fatal.ended().await.contains("node-1 was written by somebody else"));
    assert!(!nodes.follow().borrow().cordoned, "what is not kept is not told");
}
