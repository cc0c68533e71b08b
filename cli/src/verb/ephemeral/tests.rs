//! What is told of previews.

use super::*;
use jiff::{SignedDuration, Timestamp};
use miren_api::{PoolId, VersionId};

fn preview(label: &str, ready: u32) -> Ephemeral {
    let now = Timestamp::now();
    Ephemeral {
        app: AppName::parse("shop").unwrap(),
        label: Label::parse(label).unwrap(),
        version: VersionId::from_text("shop-v2"),
        expires_at: now + SignedDuration::from_mins(23 * 60 + 30),
        created_at: now - SignedDuration::from_mins(30),
        urls: vec![
            "http://pr1.shop.example.com".into(),
            "http://pr1.shop.example.net".into(),
        ],
        source: Some(VersionId::from_text("shop-v1")),
        pools: vec![PoolId::from_text("pool-1")],
        ready,
    }
}

#[test]
fn e12_the_table_tells_how_long_each_has_and_whether_it_runs() {
    let mut unreachable = preview("pr2", 0);
    unreachable.urls.clear();
    let text = table(&[preview("pr1", 1), unreachable]).draw(false, None).text;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(rows[0], ["LABEL", "VERSION", "STATUS", "EXPIRES", "CREATED", "URL"]);
    let both = "http://pr1.shop.example.com, http://pr1.shop.example.net";
    assert_eq!(rows[1], ["pr1", "shop-v2", "ready 1", "in 23 h", "30m ago", both]);
    assert_eq!(rows[2], ["pr2", "shop-v2", "idle", "in 23 h", "30m ago", "-"]);
}

#[test]
fn e13_its_urls_are_shown_as_the_server_sent_them() {
    let fields = fields(&preview("pr1", 0));
    let urls = "http://pr1.shop.example.com\nhttp://pr1.shop.example.net";
    assert!(fields.contains(&("URLs", urls.into())), "{fields:?}");
    assert!(fields.contains(&("Clone of", "shop-v1".into())), "{fields:?}");
    assert!(fields.contains(&("Status", "idle".into())), "{fields:?}");
}
