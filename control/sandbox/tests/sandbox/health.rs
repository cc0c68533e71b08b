//! Decides when a sandbox that runs is given up although its process exists, and when it must not be.

use crate::node::{signal, with_config};
use miren_api::resource::SandboxState::{Draining, Pending, Running, Stopped};
use miren_sandbox::{NodeConfig, SandboxChange};
use nix::sys::signal::Signal;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

fn quick(config: &mut NodeConfig) {
    config.health.interval = Duration::from_millis(20);
}

#[test]
fn a_stopped_process_is_given_up_after_three_checks_in_a_row_and_one_that_answers_is_not() {
    with_config(quick, async |node| {
        let (frozen, well) = (node.order("listen 0.0.0.0"), node.order("listen 0.0.0.0"));
        let mut asked = node.order("listen 0.0.0.0");
        asked.service.health_path = Some("/status/200".into());
        for order in [&well, &asked] {
            node.run(order).await;
        }
        let running = node.run(&frozen).await;
        signal(running.facts.pid, Signal::SIGSTOP);
        let given_up = node.until(&frozen.id, Draining).await;
        let reason = given_up.reason.expect("a reason");
        assert!(
            reason.contains("3 health checks") && reason.contains("SIGSTOP"),
            "{reason}"
        );
        for order in [&well, &asked] {
            assert_eq!(node.states(&order.id), [Pending, Running]);
        }
        for order in [&frozen, &well, &asked] {
            node.sandboxes().kill(&order.id, "the test is over");
            node.until(&order.id, Stopped).await;
        }
    });
}

#[test]
fn late_answers_give_up_an_idle_sandbox_and_never_one_with_a_full_accept_queue_that_works() {
    with_config(quick, async |node| {
        let (busy, hung) = (node.order("crowded work"), node.order("crowded idle"));
        // The busy one is late first, and so for as many checks as the one that is given up, and more.
        let running = node.run(&busy).await;
        node.run(&hung).await;
        let given_up = node.until(&hung.id, Draining).await;
        let reason = given_up.reason.expect("a reason");
        assert!(
            reason.contains("3 health checks") && reason.contains("timed out"),
            "{reason}"
        );
        assert!(
            is_full(&running).await,
            "the busy one took a connection: this tests nothing"
        );
        assert_eq!(node.states(&busy.id), [Pending, Running]);
        for order in [&busy, &hung] {
            node.sandboxes().kill(&order.id, "the test is over");
            node.until(&order.id, Stopped).await;
        }
    });
}

/// Whether its accept queue takes no connection for as long as a check would wait.
async fn is_full(sandbox: &SandboxChange) -> bool {
    let ip = sandbox.facts.ip.expect("an address");
    let port = sandbox.facts.port.expect("a port");
    timeout(Duration::from_secs(2), TcpStream::connect((ip, port)))
        .await
        .is_err()
}
