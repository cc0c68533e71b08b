//! Decides that what sandboxes write can be read back, however much it is.

use crate::client::ask;
use crate::node::{TestNode, with_config, with_node};
use futures_util::StreamExt;
use miren_api::resource::{LogLine, LogStream, SandboxState};
use miren_api::settings::Bytes;
use miren_sandbox::StartOrder;
use miren_sandbox::logs::{LogQuery, read};
use std::time::Duration;

fn query(order: &StartOrder) -> LogQuery {
    LogQuery {
        app: order.app.clone(),
        service: None,
        sandbox: Some(order.id.clone()),
        since: None,
        last: 1_000_000,
        follow: false,
    }
}

async fn lines(node: &TestNode, query: LogQuery) -> Vec<LogLine> {
    read(&node.config.log_dir, query)
        .map(|line| line.expect("a line"))
        .collect()
        .await
}

#[test]
fn both_outputs_are_kept_and_can_be_followed() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let mut followed = Box::pin(read(
            &node.config.log_dir,
            LogQuery {
                follow: true,
                ..query(&order)
            },
        ));
        let running = node.run(&order).await;
        let mut next = async || {
            let line = tokio::time::timeout(Duration::from_secs(10), followed.next()).await;
            line.expect("a line within 10 s")
                .expect("an open stream")
                .expect("a line")
        };
        assert_eq!(next().await.line, "listening on 0.0.0.0:3000");
        ask(&running, "print/hello");
        let line = next().await;
        assert_eq!(
            (line.line.as_str(), line.stream, line.service.as_str()),
            ("hello", LogStream::Stdout, "web")
        );
        assert_eq!(line.sandbox, order.id);
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
    });
}

#[test]
fn a_flood_is_read_completely_and_kept_within_its_bounds() {
    let small = |config: &mut miren_sandbox::NodeConfig| config.logs.file = Bytes(1 << 20);
    with_config(small, async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        assert_eq!(
            ask(&running, "flood/30000"),
            "done",
            "a sandbox that writes a lot is not held up"
        );
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
        let mut found = lines(node, query(&order)).await;
        let about = found.pop().expect("lines");
        assert_eq!(
            (about.stream, about.line.as_str()),
            (LogStream::System, "killed by signal 9 (SIGKILL)")
        );
        let last = &found.last().expect("lines").line;
        assert!(last.starts_with("line 29999 "), "the last line was lost: {last}");
        let numbers: Vec<u32> = found
            .iter()
            .filter_map(|line| line.line.split(' ').nth(1)?.parse().ok())
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "lines are missing or out of order"
        );
        let dir = node.config.log_dir.join("shop/web");
        let sizes: Vec<u64> = std::fs::read_dir(dir)
            .expect("logs")
            .map(|file| file.and_then(|file| file.metadata()).expect("a file").len())
            .collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
    });
}

#[test]
fn logs_of_old_sandboxes_are_removed() {
    let few = |config: &mut miren_sandbox::NodeConfig| config.logs.sandboxes = 2;
    with_config(few, async |node| {
        let orders = [(); 3].map(|()| node.order("exit 1"));
        for order in &orders {
            node.fail(order).await;
            node.sandboxes().drained().await;
        }
        assert_eq!(lines(node, query(&orders[0])).await, []);
        assert_eq!(lines(node, query(&orders[2])).await.len(), 3);
    });
}
