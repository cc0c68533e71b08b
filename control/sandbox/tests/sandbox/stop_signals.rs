//! Decides that a sandbox is asked to end by the signal that its image names, whichever control asks.

use crate::archive::Archive;
use crate::node::{TestNode, with_node};
use miren_api::resource::SandboxState::{Running, Stopped};
use miren_sandbox::StartOrder;
use serde_json::json;

/// Of an app that ends at this signal only, and an image that names it so.
async fn ends_at(node: &TestNode, number: &str, name: &str) -> StartOrder {
    let mut archive = Archive::new();
    archive.config["Cmd"] = json!(["stops", number, "0.0.0.0"]);
    archive.config["StopSignal"] = name.into();
    archive.order(node).await.1
}

#[test]
fn g1_the_signal_that_an_image_names_is_what_ends_its_sandbox() {
    with_node(async |node| {
        for (number, name) in [("3", "SIGQUIT"), ("37", "rtmin+3"), ("12", "12")] {
            let order = ends_at(node, number, name).await;
            node.run(&order).await;
            node.drain_now(&order.id, "replaced");
            let stopped = node.until(&order.id, Stopped).await;
            assert_eq!(stopped.facts.exit_code, Some(3), "{name}: {stopped:?}");
        }
    });
}

#[test]
fn g1_control_that_was_started_again_sends_it_too() {
    with_node(async |node| {
        let order = ends_at(node, "10", "USR1").await;
        node.run(&order).await;
        let known = node.known(&order);
        node.kill_daemon().await;
        let adopted = node.restart_daemon(vec![known]).await;
        assert!(adopted.iter().all(|change| change.state == Running), "{adopted:?}");
        node.drain_now(&order.id, "replaced");
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(stopped.facts.exit_code, Some(3), "{stopped:?}");
    });
}

#[test]
fn g1_a_signal_that_does_not_exist_is_told_before_anything_runs() {
    with_node(async |node| {
        let order = ends_at(node, "3", "SIGNOTHING").await;
        let reason = node.fail(&order).await;
        assert_eq!(reason, "image: its STOPSIGNAL \"SIGNOTHING\" is no signal");
    });
}
