//! What is said of a node.

use super::*;
use miren_api::id::NodeId;
use miren_api::node::{Blocker, DrainStep, NodeGate};

fn status(phase: NodePhase) -> NodeStatus {
    NodeStatus {
        node: "here".into(),
        id: NodeId::FIRST,
        state: phase.state(),
        phase,
        gate: NodeGate::Open,
        epoch: 3,
        generation: 0,
        cordoned: false,
        waits_for: None,
        admitted: 0,
        starts: 0,
        requests: 0,
        tunnels: 0,
        sandboxes: [("RUNNING".to_owned(), 2), ("DRAINING".to_owned(), 0)].into(),
        clean_ups: 0,
        since: None,
        deadline: None,
        overdue: false,
        blockers: Vec::new(),
        more_blockers: 0,
        errors: Vec::new(),
    }
}

fn blocker(id: &str, why: &str) -> Blocker {
    Blocker {
        id: id.into(),
        state: "STARTING".into(),
        since: None,
        why: why.into(),
    }
}

#[test]
fn d4_a_line_says_what_is_waited_for_and_what_has_waited_longest() {
    let mut draining = status(NodePhase::Draining);
    draining.waits_for = Some(DrainStep::Admitted);
    draining.admitted = 2;
    draining.blockers = vec![
        blocker("dep-1", "a deploy of shop"),
        blocker("dep-2", "a deploy of blog"),
    ];
    assert_eq!(
        progress::line(&draining),
        "DRAINING  2 let in before (dep-1: a deploy of shop)"
    );
    draining.waits_for = Some(DrainStep::Sandboxes);
    draining.requests = 7;
    draining.blockers.clear();
    assert_eq!(progress::line(&draining), "DRAINING  2 sandboxes, 7 requests in flight");
    draining.requests = 1;
    assert_eq!(progress::line(&draining), "DRAINING  2 sandboxes, 1 request in flight");
    draining.waits_for = Some(DrainStep::Starts);
    draining.starts = 3;
    assert_eq!(progress::line(&draining), "DRAINING  3 starting");
    draining.waits_for = Some(DrainStep::CleanUps);
    draining.clean_ups = 4;
    assert_eq!(progress::line(&draining), "DRAINING  4 clean-ups");
}

#[test]
fn d4_a_node_that_drains_tells_what_it_waits_for_and_until_when() {
    let names = |status: &NodeStatus| fields(status).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let value = |status: &NodeStatus, wanted: &str| {
        let found = fields(status).into_iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value)
    };
    let always = [
        "Node",
        "Phase",
        "Cordoned",
        "Admitted",
        "Starts",
        "Requests",
        "Sandboxes",
    ];
    let mut node = status(NodePhase::Draining);
    assert_eq!(names(&node), always);
    assert_eq!(value(&node, "Cordoned").as_deref(), Some("no"));
    node.cordoned = true;
    node.sandboxes.clear();
    node.waits_for = Some(DrainStep::CleanUps);
    node.clean_ups = 4;
    node.since = Some(jiff::Timestamp::UNIX_EPOCH);
    node.deadline = node.since;
    for (phase, overdue, until) in [
        (NodePhase::Draining, false, "Forced at"),
        (NodePhase::Forced, false, "Gives up at"),
        (NodePhase::Forced, true, "Gave up at"),
    ] {
        (node.phase, node.overdue) = (phase, overdue);
        assert_eq!(names(&node)[7..], ["Waits for", "Clean-ups", "Drains since", until]);
    }
    let words = DrainStep::CleanUps.as_words();
    for (name, said) in [
        ("Cordoned", "yes"),
        ("Sandboxes", "none"),
        ("Waits for", words),
        ("Clean-ups", "4"),
    ] {
        assert_eq!(value(&node, name).as_deref(), Some(said), "{name}");
    }
}

#[test]
fn d4_states_without_a_sandbox_are_not_told_and_more_blockers_are_told_as_a_number() {
    let mut draining = status(NodePhase::Draining);
    let fields = fields(&draining);
    let sandboxes = fields.iter().find(|(name, _)| *name == "Sandboxes").unwrap();
    assert_eq!(sandboxes.1, "2 RUNNING");
    draining.blockers = vec![blocker("sb-1", "shop/web has 1 requests in flight")];
    draining.more_blockers = 12;
    let table = blockers(&draining).draw(false, None).text;
    assert!(table.contains("sb-1") && table.contains("and 12 more"), "{table}");
}

#[test]
fn d4_a_forced_phase_that_is_over_says_so() {
    let mut forced = status(NodePhase::Forced);
    assert_eq!(progress::phase(&forced), "FORCED");
    forced.overdue = true;
    assert_eq!(progress::phase(&forced), "FORCED, and given up: something is left");
    assert!(forced.is_over() && !status(NodePhase::Forced).is_over() && !status(NodePhase::Draining).is_over());
    assert!(status(NodePhase::Empty).is_over() && status(NodePhase::Active).is_over());
}
