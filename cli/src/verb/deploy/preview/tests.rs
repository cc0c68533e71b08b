//! The document, the sentence and the notes that a preview ends with.

use super::*;
use miren_api::ephemeral::Ephemeral;

fn made() -> EphemeralDeployed {
    EphemeralDeployed {
        ephemeral: Ephemeral {
            app: AppName::parse("shop").unwrap(),
            label: Label::parse("feature-my-branch").unwrap(),
            version: VersionId::from_text("shop-v2"),
            expires_at: "2026-11-23T20:00:00.5Z".parse().unwrap(),
            created_at: "2026-11-22T20:00:00.5Z".parse().unwrap(),
            urls: vec!["http://feature-my-branch.shop.example.com:8080".into()],
            source: None,
            pools: vec![PoolId::from_text("pool-1"), PoolId::from_text("pool-2")],
            ready: 0,
        },
        replaced: None,
        evicted: Vec::new(),
        reused: false,
    }
}

#[test]
fn e4_the_summary_has_a_deploys_keys_in_order_and_then_its_own() {
    let took = Duration::from_millis(1234);
    assert_eq!(
        serde_json::to_string(&summary(&made(), took)).unwrap(),
        r#"{"app":"shop","version":"shop-v2","deploy":null,"seq":null,"status":"SUCCEEDED","pool":"pool-1","reused":false,"urls":["http://feature-my-branch.shop.example.com:8080"],"duration_ms":1234,"label":"feature-my-branch","expires_at":"2026-11-23T20:00:00.5Z","replaced":null,"evicted":[]}"#
    );
}

#[test]
fn e1_the_sentence_says_until_when_and_what_stays() {
    let now = "2026-11-22T20:00:02Z".parse().unwrap();
    assert_eq!(
        sentence(&made(), Duration::from_millis(1234), now),
        "Deployed shop as shop-v2 under feature-my-branch in 1.2 s, until 2026-11-23T20:00:00Z (in 24 h). \
         What serves the app is unchanged."
    );
}

#[test]
fn e6_what_had_to_go_is_said_and_so_is_that_it_cannot_be_reached() {
    assert_eq!(notes(&made()), Vec::<String>::new());
    let mut crowded = made();
    crowded.replaced = Some(VersionId::from_text("shop-v1"));
    crowded.evicted = vec![Label::parse("pr1").unwrap(), Label::parse("pr2").unwrap()];
    crowded.ephemeral.urls.clear();
    let notes = notes(&crowded);
    assert_eq!(notes[0], "It replaces shop-v1, which had the label before");
    assert!(notes[1].ends_with(": pr1, pr2"), "{}", notes[1]);
    assert!(
        notes[2].starts_with("no url: give the app a host with miren route set"),
        "{}",
        notes[2]
    );
}
