//! Deploys under load: the new version takes over, and no request fails.

use std::time::Duration;

use miren_api::resource::PoolState;
use miren_bench::load::{Load, Options};
use miren_blackbox::{AppFolder, Node, wait_until};

const HOST: &str = "shop.example.com";

fn load(node: &Node, path: &str, post: bool) -> Load {
    let mut options =
        Options::get(&format!("http://{}{path}", node.http), 200.0).expect("the address of a node is one");
    options.host = Some(HOST.to_owned());
    if post {
        options.method = "POST".parse().expect("POST is a method");
        options.body = "a body".into();
    }
    Load::start(options).expect("a load starts")
}

#[test]
fn r11_a_redeploy_under_load_fails_no_request() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(2).release("r0");
    let mut last = node.deploy_at(&app, HOST);
    let loads = [
        load(&node, "/info", false),
        load(&node, "/echo", true),
        load(&node, "/sleep?ms=40", false),
    ];
    for round in 1..=5 {
        let release = format!("r{round}");
        app.set_release(&release);
        let deployed = node.deploy(&app);
        assert_ne!(
            (&deployed.version, &deployed.pool),
            (&last.version, &last.pool),
            "changed code is a new pool"
        );
        assert!(deployed.seq > last.seq);
        // I3: after success, no new request reaches an older version.
        for _ in 0..20 {
            let response = node.get(HOST, "/info");
            assert_eq!(
                (response.status, response.field("release")),
                (200, release.clone()),
                "{response:?}"
            );
        }
        last = deployed;
    }
    for load in loads {
        let report = load.stop().expect("a load ends");
        assert_eq!(report.failed, 0, "{report}");
        assert!(report.requests > 0);
    }
    only_the_last_pool_is_left(&node, &app.name, &last.pool);
    node.stop();
}

#[test]
fn r1_identical_code_reuses_the_pool_and_starts_nothing() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1).release("same");
    let first = node.deploy_at(&app, HOST);
    let before = node.wait_running(&app.name, 1);
    let second = node.deploy(&app);
    assert!(second.reused && second.pool == first.pool, "{first:?} then {second:?}");
    let after = node.wait_running(&app.name, 1);
    assert_eq!(before[0].id, after[0].id);
    let pools = node.pools(&app.name);
    assert_eq!(
        (pools.len(), pools[0].current, pools[0].crash_count),
        (1, 1, 0),
        "{pools:?}"
    );
    node.stop();
}

/// The replaced pools go, and their end is no crash (R3).
fn only_the_last_pool_is_left(node: &Node, app: &str, pool: &str) {
    wait_until("the replaced pools to be retired", Duration::from_secs(60), || {
        let pools = node.pools(app);
        let others: Vec<_> = pools.iter().filter(|known| known.id.as_str() != pool).collect();
        assert!(
            others
                .iter()
                .all(|other| other.crash_count == 0 && other.state == PoolState::Retiring),
            "{others:?}"
        );
        if others.iter().all(|other| other.current == 0) {
            Ok(())
        } else {
            Err(format!("{others:?}"))
        }
    });
    let running = node.wait_running(app, 2);
    assert!(
        running.iter().all(|sandbox| sandbox.pool.as_str() == pool),
        "{running:?}"
    );
}
