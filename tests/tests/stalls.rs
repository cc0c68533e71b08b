//! A sandbox that is frozen: its requests go elsewhere, it gets no others, and it is replaced.

use std::time::Duration;

use miren_bench::load::{Load, Options};
use miren_blackbox::{AppFolder, Node, process, wait_until};
use nix::sys::signal::Signal;

const HOST: &str = "frozen.example.com";
/// Requests a second.
const RATE: f64 = 500.0;
/// Far less than a client of a frozen sandbox would wait without help, and far more than a busy machine needs.
const NOTICEABLE_MS: f64 = 3_000.0;

#[test]
fn r4_a_frozen_sandbox_fails_no_request_and_is_replaced() {
    let node = Node::start();
    let app = AppFolder::rust("frozen").fixed(2);
    node.deploy_at(&app, HOST);
    let before = node.wait_running("frozen", 2);
    let mut options = Options::get(&format!("http://{}/info", node.http), RATE).expect("the address of a node is one");
    options.host = Some(HOST.to_owned());
    let load = Load::start(options).expect("a load starts");
    wait_until(
        "the service's pace to be known",
        Duration::from_secs(10),
        || match load.progress() {
            (answered, _) if answered >= 500 => Ok(()),
            progress => Err(format!("{progress:?}")),
        },
    );

    let frozen = &before[0];
    process::signal(frozen.pid.expect("a running sandbox has a process"), Signal::SIGSTOP);
    let after = wait_until("its replacement", Duration::from_secs(60), || {
        let running = node.running("frozen");
        let replaced = running.len() == 2 && running.iter().all(|sandbox| sandbox.id != frozen.id);
        if replaced {
            Ok(running)
        } else {
            Err(format!("{running:?}"))
        }
    });
    assert!(
        after.iter().any(|sandbox| sandbox.id == before[1].id),
        "the healthy one was replaced too"
    );
    let report = load.stop().expect("a load ends");
    println!("{report}");
    assert_eq!(report.failed, 0, "{report}");
    assert!(report.latency_ms.max < NOTICEABLE_MS, "{report}");
    node.stop();
}
