//! Decides that only what is surely the same sandbox is adopted.

use super::*;
use miren_loader::ChangedBy;

#[test]
fn a_living_process_goes_on_in_the_state_of_its_word() {
    let cases = [
        (State::Pending, SandboxState::Pending),
        (State::Running, SandboxState::Running),
        (State::Draining, SandboxState::Draining),
        (State::Stopping, SandboxState::Stopping),
    ];
    for (word, state) in cases {
        assert_eq!(judge(Some(word), true), Verdict::Lives(state));
        assert_eq!(judge(Some(word), false), Verdict::Over, "{word}: its process is gone");
    }
}

#[test]
fn what_ended_or_has_no_slot_is_over() {
    for word in [Some(State::Stopped), Some(State::Dead), Some(State::Free), None] {
        assert_eq!(judge(word, true), Verdict::Over);
    }
}

#[test]
fn g17_what_was_written_down_before_there_was_a_gate_has_begun() {
    let of = |more: &str| {
        let one = r#"{"pid":1,"started":2}"#;
        let text = format!(r#"{{"helper":{one},"init":{one}{more}}}"#);
        serde_json::from_str::<Processes>(&text)
            .expect("two processes")
            .has_begun
    };
    assert!(of(""));
    assert!(!of(r#","has_begun":false"#));
}

#[test]
fn k5_a_slot_of_another_generation_or_address_is_not_the_same() {
    let ip = Some(IpAddr::from([10, 0, 0, 2]));
    let facts = Facts {
        slot: Some(0),
        generation: Some(7),
        ip,
        ..Facts::default()
    };
    let view = SlotView {
        generation: 7,
        state: State::Running,
        since_ns: 0,
        changed_by: ChangedBy::Control,
        exit_code: 0,
        tgid: 1,
        endpoint: None,
    };
    assert!(is_the_same(&facts, &view, ip));
    assert!(!is_the_same(&facts, &SlotView { generation: 8, ..view }, ip));
    assert!(!is_the_same(
        &facts,
        &SlotView {
            state: State::Free,
            ..view
        },
        ip
    ));
    assert!(
        !is_the_same(&facts, &view, Some(IpAddr::from([10, 1, 0, 2]))),
        "network.subnet was changed"
    );
    assert!(!is_the_same(&Facts::default(), &view, ip));
}
