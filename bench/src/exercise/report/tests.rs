//! What rounds amount to, and what the operator is shown of it.

use super::*;
use crate::load::{Failure, Latency};

fn load(requests: u64, causes: &[(Cause, u64)]) -> LoadReport {
    let failure = |cause: &(Cause, u64)| Failure {
        cause: cause.0,
        at_ms: 7,
        status: None,
        code: None,
        error: Some("why".to_owned()),
    };
    let latency = 0.0;
    LoadReport {
        requests,
        failed: causes.iter().map(|(_, count)| count).sum(),
        causes: causes.iter().copied().collect(),
        failures: causes.iter().map(failure).collect(),
        statuses: BTreeMap::new(),
        latency_ms: Latency {
            p50: latency,
            p99: latency,
            p999: latency,
            max: latency,
        },
        rate: 1.0,
        duration_s: 1.0,
    }
}

fn round(causes: &[(Cause, u64)], cut: u64, times: &[(&'static str, u64)], gap: u64) -> Round {
    let pace = |gap: u64| Pace {
        p99: Duration::from_millis(gap / 2),
        gap: Duration::from_millis(gap),
    };
    Round {
        left: Left {
            short: [load(100, causes), load(50, &[])],
            long: [load(4, &[]), load(4, &[])],
            streams: StreamCounts {
                opened: 8,
                told: 1,
                cut,
                cuts: vec!["WebSocket, cut".to_owned(); cut as usize],
            },
            answers: Vec::new(),
        },
        before: pace(2),
        during: pace(gap),
        times: times
            .iter()
            .map(|(name, ms)| (*name, Duration::from_millis(*ms)))
            .collect(),
    }
}

fn row(who: &str) -> Row {
    let rounds = vec![
        round(&[(Cause::Refused, 2), (Cause::Cut, 1)], 0, &[("serves", 10)], 30),
        round(&[(Cause::Cut, 4)], 3, &[("serves", 30), ("old_gone", 5)], 90),
        round(&[], 0, &[("serves", 20)], 20),
    ];
    Row::sum_up(who.to_owned(), "reload", rounds)
}

fn report(rows: Vec<Row>) -> Report {
    Report {
        rounds: 3,
        rate: 500.0,
        rows,
        left_out: vec!["haproxy is not installed: apt-get install haproxy".to_owned()],
        moments: ["serves", "old_gone"],
        notes: "what it means",
    }
}

#[test]
fn rounds_are_added_and_of_times_the_middle_is_told_and_of_gaps_the_longest() {
    let row = row("nginx");
    assert_eq!((row.short.requests, row.short.failed), (450, 7));
    assert_eq!(row.short.causes, BTreeMap::from([(Cause::Refused, 2), (Cause::Cut, 5)]));
    assert_eq!((row.long.requests, row.long.failed), (24, 0));
    assert_eq!((row.streams.opened, row.streams.told, row.streams.cut), (24, 3, 3));
    assert_eq!(row.times_ms, BTreeMap::from([("serves", 20.0), ("old_gone", 5.0)]));
    assert_eq!((row.during.p99_ms, row.during.gap_ms), (15.0, 90.0));
    assert_eq!(row.before.gap_ms, 2.0);
    assert_eq!(row.lost(), 10);
    assert!(
        row.failures.contains(&"kept connection, at 7 ms: why".to_owned()),
        "{:?}",
        row.failures
    );
    assert!(
        row.failures.contains(&"WebSocket, cut".to_owned()),
        "{:?}",
        row.failures
    );
}

#[test]
fn only_what_this_build_lost_is_a_failure_of_the_run() {
    assert_eq!(report(vec![row("nginx")]).lost_by_ours(), 0);
    assert_eq!(
        report(vec![row(crate::exercise::OURS), row("nginx")]).lost_by_ours(),
        10
    );
}

#[test]
fn the_table_names_causes_and_who_was_left_out_and_a_moment_that_never_came() {
    let mut never = row("haproxy");
    never.times_ms.clear();
    let text = report(vec![row("nginx"), never]).to_string();
    assert!(text.contains("SERVES MS") && text.contains("OLD GONE MS"), "{text}");
    assert!(
        text.contains("nginx, reload: of short requests 2 refused, 5 cut"),
        "{text}"
    );
    assert!(
        text.contains("left out: haproxy is not installed: apt-get install haproxy"),
        "{text}"
    );
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("haproxy"))
        .expect("a row");
    assert_eq!(line.split_whitespace().filter(|cell| *cell == "-").count(), 2, "{text}");
}

#[test]
fn the_document_has_every_number_by_name() {
    let document = serde_json::to_value(report(vec![row("nginx")])).expect("a document");
    let row = &document["rows"][0];
    assert_eq!(row["short"]["causes"]["cut"], 5);
    assert_eq!(row["times_ms"]["old_gone"], 5.0);
    assert_eq!(row["during"]["gap_ms"], 90.0);
    assert_eq!(
        document["left_out"][0],
        "haproxy is not installed: apt-get install haproxy"
    );
}
