//! What is told of a deploy that has ended.

use super::*;
use miren_api::deploy::DeployStep;
use miren_api::{AppName, DeployId, VersionId};

fn step(status: DeployStatus, at: &str, message: &str) -> DeployStep {
    DeployStep {
        status,
        at: at.parse().unwrap(),
        message: message.into(),
    }
}

fn failed() -> Deploy {
    Deploy {
        id: DeployId::from_text("dep-1"),
        app: AppName::parse("shop").unwrap(),
        version: Some(VersionId::from_text("shop-v1")),
        seq: 4,
        status: DeployStatus::Failed,
        pool: None,
        reused: false,
        urls: Vec::new(),
        default_route: false,
        started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        finished_at: Some("2026-01-02T03:05:06.5Z".parse().unwrap()),
        error: Some("exited with code 1\nlast words".into()),
        progress: None,
        steps: vec![
            step(DeployStatus::Staging, "2026-01-02T03:04:05.2Z", "unpacked"),
            step(DeployStatus::Starting, "2026-01-02T03:04:06.7Z", "1 sandbox"),
        ],
    }
}

#[test]
fn the_table_has_the_first_line_of_the_error() {
    let text = table(&[failed()]).draw(false, None).text;
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        lines.next().unwrap(),
        ["ID", "SEQ", "VERSION", "STATUS", "STARTED", "TOOK", "ERROR"]
    );
    let row = lines.next().unwrap();
    assert_eq!(row[..4], ["dep-1", "4", "shop-v1", "FAILED"]);
    assert!(text.ends_with("1m 01s  exited with code 1"), "{text}");
}

#[test]
fn what_the_default_route_leads_to_is_reached_by_more_than_its_urls() {
    let mut deploy = failed();
    assert!(fields(&deploy).contains(&("URLs", "-".into())));
    deploy.default_route = true;
    deploy.urls = vec!["http://shop.example.com".into()];
    let everywhere = "http://shop.example.com, every host without a route of its own";
    assert!(fields(&deploy).contains(&("URLs", everywhere.into())));
}

#[test]
fn each_step_says_how_long_after_the_one_before_it_came() {
    let steps: Vec<String> = fields(&failed())
        .into_iter()
        .filter(|(name, _)| *name == "Step")
        .map(|(_, line)| line)
        .collect();
    assert_eq!(
        steps,
        ["STAGING        +0.2 s  unpacked", "STARTING       +1.5 s  1 sandbox"]
    );
}

#[test]
fn what_has_not_ended_has_taken_no_time_yet() {
    let mut deploy = failed();
    deploy.finished_at = None;
    assert_eq!(took(&deploy), "-");
}
