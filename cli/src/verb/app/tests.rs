//! What is told of versions.

use super::*;
use jiff::{SignedDuration, Timestamp};
use miren_api::VersionId;

#[test]
fn e12_versions_tell_what_they_are_for_and_how_long_they_have() {
    let now = Timestamp::now();
    let version = |id: &str, status: VersionStatus, label: Option<&str>| Version {
        version: VersionId::from_text(id),
        app: AppName::parse("shop").unwrap(),
        status,
        label: label.map(str::to_owned),
        expires_at: label.map(|_| now + SignedDuration::from_mins(23 * 60 + 30)),
        created_at: now - SignedDuration::from_mins(30),
        pool: None,
    };
    let text = versions_table(&[
        version("shop-v3", VersionStatus::Ephemeral, Some("pr1")),
        version("shop-v2", VersionStatus::Active, None),
        version("shop-v1", VersionStatus::Replaced, None),
    ])
    .draw(false, None)
    .text;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(rows[0], ["VERSION", "STATUS", "LABEL", "CREATED", "EXPIRES", "POOL"]);
    assert_eq!(rows[1], ["shop-v3", "ephemeral", "pr1", "30m ago", "in 23 h", "-"]);
    assert_eq!(rows[2], ["shop-v2", "active", "-", "30m ago", "-", "-"]);
    assert_eq!(rows[3][1], "replaced");
}
