//! Decides that what sandboxes write can be read back, however much it is.

use crate::client::ask;
use crate::node::{TestNode, with_config, with_node};
use futures_util::StreamExt;
use miren_api::resource::{LinePart, LogLine, LogStream, SandboxState};
use miren_api::settings::Bytes;
use miren_sandbox::logs::{LogQuery, read};
use miren_sandbox::{LogRate, StartOrder};
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
fn g7_a_long_line_is_whole_and_a_longer_one_is_in_parts_that_say_so() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        for kibibytes in [80, 600] {
            assert_eq!(ask(&running, &format!("letters/{kibibytes}")), "done");
        }
        ask(&running, "print/after");
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
        let found = lines(node, query(&order)).await;
        let of_app = found.iter().filter(|line| line.stream != LogStream::System);
        let seen: Vec<_> = of_app.map(|line| (line.line.as_str(), line.part)).collect();
        let letters = |kibibytes: usize| format!("x{}", "é".repeat(kibibytes * 512));
        assert_eq!(seen[1], (letters(80).as_str(), None));
        let parts: Vec<_> = seen[2..5].iter().map(|(_, part)| *part).collect();
        let part = |number, last| Some(LinePart { number, last });
        assert_eq!(parts, [part(1, false), part(2, false), part(3, true)]);
        let together: String = seen[2..5].iter().map(|(text, _)| *text).collect();
        assert_eq!(together, letters(600));
        assert_eq!(seen[5..], [("after", None)]);
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
        assert_eq!(about.stream, LogStream::System);
        assert!(about.line.ends_with("killed by signal 9 (SIGKILL)"), "{}", about.line);
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

#[test]
fn f4_a_flood_is_dropped_counted_and_said_and_holds_nobody_up() {
    let slow = |config: &mut miren_sandbox::NodeConfig| {
        config.logs.rate = LogRate {
            bytes: Bytes(64 << 10),
            lines: 500,
            burst: Duration::from_secs(2),
        };
    };
    with_config(slow, async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "flood/300000"), "done", "whoever writes goes on");
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
        let found = lines(node, query(&order)).await;
        let (about, own): (Vec<_>, Vec<_>) = found.iter().partition(|line| line.stream == LogStream::System);
        let said = about
            .iter()
            .filter(|line| line.line.contains(" dropped: over the limit of "));
        let dropped = said.map(|line| {
            line.line
                .split(' ')
                .next()
                .and_then(|number| number.parse::<u64>().ok())
        });
        let dropped: u64 = dropped.map(|number| number.expect("a number")).sum();
        // With the line that says where it listens.
        assert_eq!(own.len() as u64 + dropped, 300_001, "{about:?}");
        assert!(dropped > 0, "30 MB at 64 KiB a second");
        node.sandboxes().drained().await;
        assert_eq!(node.sandboxes().dropped_lines().lines, dropped);
    });
}

#[test]
fn f4_who_reads_a_sandbox_has_limits_of_its_own_that_outlive_it() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let processes = node
            .config
            .run_dir
            .join("sandboxes")
            .join(order.id.as_str())
            .join("processes.json");
        let processes = std::fs::read_to_string(processes).expect("recorded processes");
        let processes: serde_json::Value = serde_json::from_str(&processes).expect("JSON");
        let helper = processes["helper"]["pid"].as_u64().expect("a helper");
        let group = format!("/miren-{}.logs/{}", node.config.name, order.id);
        // It joins once the command runs; there is no event for that.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let groups = loop {
            let groups = std::fs::read_to_string(format!("/proc/{helper}/cgroup")).expect("a living helper");
            if groups.contains(&group) {
                break groups;
            }
            assert!(std::time::Instant::now() < deadline, "the helper is only in {groups}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let own = format!("/miren-{}/{}", node.config.name, order.id);
        assert!(
            !groups.lines().any(|line| line.ends_with(&own)),
            "it would go with its sandbox: {groups}"
        );
        let memory = groups.lines().find(|line| line.contains(":memory:"));
        assert!(!memory.is_some_and(|line| line.contains(&group)), "{groups}");
        let limits = limits_of(&groups, &group);
        assert!(
            limits.iter().any(|limit| limit.starts_with("25000")),
            "a quarter of a core: {limits:?}"
        );
        assert_eq!(ask(&running, "print/still-read"), "");
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, SandboxState::Stopped).await;
        node.sandboxes().drained().await;
        assert!(limits_of(&groups, &group).is_empty(), "the groups are gone");
        assert!(
            lines(node, query(&order))
                .await
                .iter()
                .any(|line| line.line == "still-read")
        );
    });
}

/// The limits of processor time of a group, in whatever hierarchy has them.
fn limits_of(groups: &str, group: &str) -> Vec<String> {
    let roots = std::fs::read_dir("/sys/fs/cgroup")
        .expect("cgroups")
        .flatten()
        .map(|entry| entry.path());
    let roots = roots.chain([std::path::PathBuf::from("/sys/fs/cgroup")]);
    let files = roots.flat_map(|root| {
        let dir = root.join(group.trim_start_matches('/'));
        ["cpu.cfs_quota_us", "cpu.max"].map(|file| dir.join(file))
    });
    assert!(groups.contains(group));
    files.filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}
