//! A shell stands in for a daemon: it says what real ones say, over the same socket.

use super::super::stop::by_hand;
use super::*;
use nix::unistd::User;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Longest wait for anything in these tests.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    async fn shows(&self, part: &str) {
        let began = Instant::now();
        while !self.text().contains(part) {
            assert!(began.elapsed() < DEADLINE, "waited for {part:?}, saw {:?}", self.text());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn daemon(dir: &Path, script: &str) -> (Daemon, Captured) {
    let captured = Captured::default();
    let out = Box::new(std::io::sink());
    let console = crate::console::Console::plain(out, Box::new(captured.clone()), crate::options::Format::Table);
    let program = Program {
        name: "stand-in".into(),
        path: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: Vec::new(),
        log: dir.join("log"),
        notify: dir.join("notify"),
        notifier: User::from_uid(nix::unistd::getuid()).unwrap().unwrap(),
        listener: None,
        takes_over: None,
        cleans_up: false,
    };
    (Daemon::prepare(program, console.notes()).unwrap(), captured)
}

/// Waits until a file has that many lines.
async fn lines(path: &Path, count: usize) {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count {
            return;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "waited for {count} lines in {}, saw {text:?}",
            path.display()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends what the daemon would send.
fn say_ready(daemon: &Daemon, facts: &str) {
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket
        .send_to(format!("READY=1\nX_MIREN={facts}").as_bytes(), &daemon.program.notify)
        .unwrap();
}

#[tokio::test]
async fn a_daemon_that_fails_at_its_start_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, _) = daemon(dir.path(), "echo first; echo 'error: no such bridge' >&2; exit 1");
    let (_sender, stop) = by_hand();
    let failure = daemon.start(stop).await.unwrap_err();
    assert!(failure.message.contains("no such bridge"), "{}", failure.message);
    assert!(failure.message.contains("starting stand-in"), "{}", failure.message);
}

#[tokio::test]
async fn a_daemon_that_dies_is_started_again_until_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!(
        "trap 'exit 0' TERM; echo $$ >> {}; while :; do sleep 0.05; done",
        pids.display()
    );
    let (mut daemon, captured) = daemon(dir.path(), &script);
    let (sender, stop) = by_hand();
    say_ready(&daemon, "{\"pid\":1}");
    assert_eq!(daemon.start(stop.clone()).await.unwrap(), "{\"pid\":1}");
    lines(&pids, 1).await;
    signal(daemon.child.as_ref().unwrap(), Signal::SIGKILL);
    let kept = tokio::spawn(async move { daemon.keep(stop).await });
    captured.shows("starting it again in 100 ms").await;
    lines(&pids, 2).await;
    sender.send_replace(StopLevel::Gently);
    assert_eq!(kept.await.unwrap(), Ended::Gently);
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_when_somebody_insists() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, _) = daemon(dir.path(), "trap '' TERM; echo deaf; while :; do sleep 0.05; done");
    let (sender, stop) = by_hand();
    say_ready(&daemon, "{}");
    daemon.start(stop.clone()).await.unwrap();
    lines(&dir.path().join("log"), 1).await;
    sender.send_replace(StopLevel::Forced);
    assert_eq!(daemon.stop(stop).await, Ended::Forced);
}

#[tokio::test]
async fn a_dead_one_that_cleans_up_is_started_once_more_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!(
        "trap 'echo cleaned; exit 0' TERM; echo $$ >> {}; while :; do sleep 0.05; done",
        pids.display()
    );
    let (mut daemon, captured) = daemon(dir.path(), &script);
    daemon.program.cleans_up = true;
    let (sender, stop) = by_hand();
    say_ready(&daemon, "{}");
    daemon.start(stop.clone()).await.unwrap();
    lines(&pids, 1).await;
    signal(daemon.child.as_ref().unwrap(), Signal::SIGKILL);
    let (notify, log) = (daemon.program.notify.clone(), daemon.program.log.clone());
    let kept = tokio::spawn(async move { daemon.keep(stop).await });
    captured.shows("starting it again").await;
    sender.send_replace(StopLevel::Gently);
    lines(&pids, 2).await;
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", notify).unwrap();
    assert_eq!(kept.await.unwrap(), Ended::Gently);
    assert_eq!(last_line(&log).as_deref(), Some("cleaned"));
}

/// Puts a script in the place of a program, whole at once.
fn install(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let new = path.with_extension("new");
    std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn a_program_that_changed_on_disk_takes_over_and_one_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, calls) = (dir.path().join("program"), dir.path().join("calls"));
    let lives = |name: &str| {
        let log = calls.display();
        format!(
            "trap 'echo end of {name} >> {log}; exit 0' TERM; echo {name} $1 >> {log}; while :; do sleep 0.05; done"
        )
    };
    install(&path, &lives("old"));
    let (mut daemon, captured) = daemon(dir.path(), "");
    daemon.program.path.clone_from(&path);
    daemon.program.arguments.clear();
    daemon.program.takes_over = Some("take-over");
    daemon.binary = Some(Binary::watch(&path).unwrap());
    let (sender, stop) = by_hand();
    say_ready(&daemon, "{}");
    daemon.start(stop.clone()).await.unwrap();
    lines(&calls, 1).await;
    let notify = daemon.program.notify.clone();
    let kept = tokio::spawn(async move { daemon.keep(stop).await });

    install(&path, "echo 'error: not today' >&2; exit 1");
    captured
        .shows("the new one does not serve: ended (exit status: 1): not today; the old one does")
        .await;
    install(&path, &lives("new"));
    lines(&calls, 2).await;
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", notify).unwrap();
    captured.shows("has changed on disk: the new one serves").await;
    assert_eq!(
        std::fs::read_to_string(&calls).unwrap(),
        "old\nnew take-over\n",
        "the old one goes when it likes"
    );
    sender.send_replace(StopLevel::Gently);
    assert_eq!(kept.await.unwrap(), Ended::Gently);
    let mut ends: Vec<String> = std::fs::read_to_string(&calls)
        .unwrap()
        .lines()
        .skip(2)
        .map(str::to_owned)
        .collect();
    ends.sort();
    assert_eq!(ends, ["end of new", "end of old"], "neither is left");
}

/// Asks as `miren upgrade` does; why not.
async fn ask(socket: &Path, replace: &str) -> Option<String> {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let request = serde_json::json!({ "replace": replace, "limit_ms": 20_000 });
    stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    let answer: crate::dev::desk::Answer = serde_json::from_str(&line).unwrap();
    answer.error
}

#[tokio::test]
async fn whoever_asks_is_told_what_became_of_the_program_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let layout = crate::dev::layout::Layout::new("dev", dir.path(), true);
    std::fs::create_dir(&layout.run_dir).unwrap();
    let (path, calls) = (dir.path().join("program"), dir.path().join("calls"));
    let lives = format!(
        "trap 'exit 0' TERM; echo called $1 >> {}; while :; do sleep 0.05; done",
        calls.display()
    );
    install(&path, &lives);
    let (mut daemon, _) = daemon(dir.path(), "");
    daemon.program.path.clone_from(&path);
    daemon.program.arguments.clear();
    daemon.program.takes_over = Some("take-over");
    daemon.binary = Some(Binary::watch(&path).unwrap());
    daemon.answers_at(Desk::open(&layout).unwrap());
    let (sender, stop) = by_hand();
    say_ready(&daemon, "{}");
    daemon.start(stop.clone()).await.unwrap();
    lines(&calls, 1).await;
    let notify = daemon.program.notify.clone();
    let kept = tokio::spawn(async move { daemon.keep(stop).await });

    let desk = layout.desk();
    assert!(ask(&desk, "another").await.unwrap().contains("is not replaced here"));
    assert_eq!(ask(&desk, "stand-in").await, None, "it serves already");
    let first = dir.path().join("first");
    std::fs::hard_link(&path, &first).unwrap();
    install(&path, "echo 'error: not today' >&2; exit 1");
    assert!(ask(&desk, "stand-in").await.unwrap().contains("not today"));
    // Back in place, it is the one that serves: nothing is to be done.
    std::fs::rename(first, &path).unwrap();
    assert_eq!(ask(&desk, "stand-in").await, None);
    install(&path, &lives);
    let asked = tokio::spawn(async move { ask(&desk, "stand-in").await });
    lines(&calls, 2).await;
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", notify).unwrap();
    assert_eq!(asked.await.unwrap(), None);
    assert_eq!(std::fs::read_to_string(&calls).unwrap(), "called\ncalled take-over\n");
    sender.send_replace(StopLevel::Gently);
    assert_eq!(kept.await.unwrap(), Ended::Gently);
    assert!(!layout.desk().exists());
}
