//! A cold burst asks for as many sandboxes as it has requests for, and for none more.

use crate::app::App;
use crate::client::get;
use crate::stage::{HOST, Stage, all};
use crate::waiting::ask_often;

const BURSTS: usize = 50;
const REQUESTS: usize = 100;
const EACH: u64 = 10;

/// Sandboxes that come as soon as they are asked for; twice as many as there should be.
async fn burst(path: &str) -> usize {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    app.state.release.add_permits(REQUESTS);
    stage.control.change(|inner| inner.requests_per_lease = Some(EACH));
    for _ in 0..REQUESTS / 5 {
        stage.grant("shop-v1", &app, EACH as u32);
    }
    let responses = all(ask_often(stage.address(), REQUESTS, &get(HOST, path))).await;
    assert!(responses.iter().all(|response| response.status == 200));
    stage.control.change(|inner| {
        for acquire in &inner.acquires {
            assert!(acquire.demand.total() <= REQUESTS as u64, "{:?}", acquire.demand);
        }
        inner.needed["shop-v1"]
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_a_hundred_requests_at_once_make_ten_sandboxes_for_ten_each_fifty_times() {
    for number in 0..BURSTS {
        let path = ["/", "/hold"][number % 2];
        let needed = burst(path).await;
        assert!(
            needed <= REQUESTS / EACH as usize,
            "burst {number} to {path} made {needed}"
        );
    }
}
