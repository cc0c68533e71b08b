//! Decides which lines answer a query, and that following misses none.

use super::*;
use crate::logs::{LogWriter, file};
use futures_util::StreamExt;
use miren_api::resource::LogStream;
use std::time::Duration;

struct Logs(tempfile::TempDir);

impl Logs {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn writer(&self, service: &str, sandbox: &str, limit: u64) -> LogWriter {
        let id = SandboxId::from_text(sandbox);
        let path = file(self.0.path(), &app(), service, &id);
        LogWriter::open(&path, limit, 3, service.into(), id).expect("a log")
    }

    async fn found(&self, query: LogQuery) -> Vec<String> {
        let lines = read(self.0.path(), query).map(|line| line.expect("a line").line);
        lines.collect().await
    }
}

fn app() -> AppName {
    AppName::parse("shop").expect("a name")
}

fn query() -> LogQuery {
    LogQuery {
        app: app(),
        service: None,
        sandbox: None,
        since: None,
        last: 100,
        follow: false,
    }
}

fn write(log: &mut LogWriter, text: &str) {
    log.line(LogStream::Stdout, text.as_bytes());
    log.flush();
}

/// Distinct times for lines that follow each other.
fn tick() {
    let now = Timestamp::now();
    while Timestamp::now() <= now {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn lines_of_all_sandboxes_are_merged_by_time() {
    let logs = Logs::new();
    let mut one = logs.writer("web", "sb-1", 1 << 20);
    let mut two = logs.writer("worker", "sb-2", 1 << 20);
    for (log, text) in [(&mut one, "a"), (&mut two, "b")] {
        write(log, text);
        tick();
    }
    let middle = Timestamp::now();
    tick();
    write(&mut one, "c");
    assert_eq!(logs.found(query()).await, ["a", "b", "c"]);
    assert_eq!(logs.found(LogQuery { last: 2, ..query() }).await, ["b", "c"]);
    assert_eq!(
        logs.found(LogQuery {
            since: Some(middle),
            ..query()
        })
        .await,
        ["c"]
    );
    let worker = LogQuery {
        service: Some("worker".into()),
        ..query()
    };
    assert_eq!(logs.found(worker).await, ["b"]);
    let sandbox = LogQuery {
        sandbox: Some(SandboxId::from_text("sb-1")),
        ..query()
    };
    assert_eq!(logs.found(sandbox).await, ["a", "c"]);
}

#[tokio::test]
async fn older_parts_are_read_when_the_newest_does_not_have_enough() {
    let logs = Logs::new();
    let mut log = logs.writer("web", "sb-1", 250);
    for number in 0..5 {
        write(&mut log, &format!("{number}"));
    }
    assert_eq!(logs.found(LogQuery { last: 4, ..query() }).await, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn an_app_without_logs_has_no_lines() {
    assert_eq!(Logs::new().found(query()).await, Vec::<String>::new());
}

#[tokio::test]
async fn following_sees_new_lines_rotation_new_sandboxes_and_new_services() {
    let logs = Logs::new();
    let mut one = logs.writer("web", "sb-1", 300);
    write(&mut one, "before");
    let mut lines = Box::pin(read(
        logs.0.path(),
        LogQuery {
            follow: true,
            ..query()
        },
    ));
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(10), lines.next()).await;
        line.expect("a line within 10 s")
            .expect("an open stream")
            .expect("a line")
            .line
    };
    assert_eq!(next().await, "before");
    for number in 0..6 {
        write(&mut one, &format!("line {number}"));
        assert_eq!(next().await, format!("line {number}"));
    }
    let mut two = logs.writer("web", "sb-2", 1 << 20);
    write(&mut two, "second sandbox");
    assert_eq!(next().await, "second sandbox");
    let mut other = logs.writer("worker", "sb-3", 1 << 20);
    write(&mut other, "other service");
    assert_eq!(next().await, "other service");
}
