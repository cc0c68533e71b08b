//! Which runs end and which are forgotten, by their times.

use super::*;
use crate::app::spec;
use crate::record::{Outcome, Spec};
use miren_api::app_file;
use miren_api::id::{AppName, VersionId};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// One that began at 0 and may take 100 seconds.
fn run(id: &str) -> RunRecord {
    let parsed = app_file::parse(Some("[services.web]\ncommand = \"serve\"\n"), None).unwrap();
    let spec = Spec {
        service: parsed.services["web"].clone(),
        artifact: String::new(),
        image: None,
    };
    RunRecord {
        id: SandboxId::from_text(id),
        app: AppName::from_text("shop"),
        version: VersionId::from_text("shop-v1"),
        service: "web".into(),
        spec: spec::once(spec, "work".into()),
        words: Vec::new(),
        attached: None,
        deploy: None,
        created_at: at(0),
        until: at(100),
        unwanted: None,
        outcome: None,
    }
}

fn ended(id: &str, second: i64) -> RunRecord {
    RunRecord {
        outcome: Some(Outcome {
            at: at(second),
            by_itself: true,
            exit_code: Some(0),
            reason: None,
        }),
        ..run(id)
    }
}

#[test]
fn g17_a_run_ends_when_its_time_is_over_or_nobody_wants_it() {
    let unwanted = RunRecord {
        unwanted: Some("its client has gone".into()),
        ..run("sb-2")
    };
    let runs = [run("sb-1"), unwanted, ended("sb-3", 10)];
    let early = plan(runs.iter(), false, at(99));
    assert_eq!(
        early.end,
        [(SandboxId::from_text("sb-2"), "its client has gone".to_owned())]
    );
    assert_eq!((early.forget.len(), early.wake), (0, Some(at(100))));
    let late = plan(runs.iter(), false, at(100));
    assert_eq!(late.end.len(), 2);
    assert!(late.end[0].1.contains("100s"), "{late:?}");
    let with_app = plan(runs.iter(), true, at(1));
    assert_eq!(with_app.end.len(), 2, "{with_app:?}");
}

#[test]
fn g17_what_became_of_a_run_is_kept_for_a_week_and_of_the_newest() {
    let (age, most) = KEPT;
    let week = i64::try_from(age.as_secs()).unwrap();
    let runs: Vec<RunRecord> = (0..=most as i64).map(|n| ended(&format!("sb-{n}"), n)).collect();
    let now = plan(runs.iter(), false, at(100));
    assert_eq!(now.forget, [SandboxId::from_text("sb-0")], "one more than are kept");
    assert_eq!(now.wake, Some(at(1 + week)));
    let later = plan(runs.iter(), false, at(week + 2));
    assert_eq!(later.forget.len(), 3, "and two whose time is over");
}

#[test]
fn g17_a_command_is_shown_as_a_shell_would_have_to_be_given_it() {
    let words = ["sh", "-c", "echo it's $HOME", "", "a=b"].map(str::to_owned);
    assert_eq!(quoted(&words), r"sh -c 'echo it'\''s $HOME' '' a=b");
}
