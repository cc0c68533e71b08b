//! The sample apps alone, on loopback: what the other tests rely on them for.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use miren_blackbox::http::{self, Connection, WebSocket};
use miren_blackbox::{AppFolder, process, wait_until};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

/// A sample app run without any of the system.
struct Running {
    child: Child,
    address: SocketAddr,
    stdout: BufReader<std::process::ChildStdout>,
    _folder: AppFolder,
}

fn command(folder: &AppFolder) -> Command {
    let text = std::fs::read_to_string(folder.path().join(".miren/app.toml")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("command = "))
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let mut words = line.split(' ');
    let program = words.next().unwrap().replace("python3", "/usr/bin/python3");
    let mut command = Command::new(program);
    command.args(words).current_dir(folder.path()).envs([
        ("PORT", "0"),
        ("MIREN_VERSION", "v7"),
        ("MIREN_SANDBOX", "sb-x"),
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Running {
    fn start(folder: AppFolder, env: &[(&str, &str)]) -> Self {
        let mut child = command(&folder).envs(env.iter().copied()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let port = line
            .trim()
            .rsplit_once("listening on port ")
            .and_then(|(_, port)| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("first line: {line:?}"));
        Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            stdout,
            _folder: folder,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn samples() -> [AppFolder; 3] {
    [
        AppFolder::rust("a").release("r1"),
        AppFolder::python("b").release("r1"),
        AppFolder::node("c").release("r1"),
    ]
}

fn monotonic_ns() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}

#[test]
fn they_tell_who_they_are_and_log_each_request() {
    for folder in samples() {
        let mut app = Running::start(folder, &[]);
        let before = monotonic_ns();
        let response = http::get(app.address, "x", "/info?q=1").unwrap();
        assert_eq!(response.status, 200);
        let field = |name: &str| response.field(name);
        assert_eq!(
            [field("version"), field("release"), field("sandbox")],
            ["v7", "r1", "sb-x"]
        );
        assert_eq!(field("pid"), app.child.id().to_string());
        let mut line = String::new();
        app.stdout.read_line(&mut line).unwrap();
        assert!(line.contains("version=v7 sandbox=sb-x request GET /info?q=1"), "{line}");
        let at: i64 = line
            .split(' ')
            .next()
            .unwrap()
            .trim_start_matches("at_ns=")
            .parse()
            .unwrap();
        assert!(
            (before..monotonic_ns()).contains(&at),
            "{at} is not a time of the kernel's monotonic clock"
        );
        assert_eq!(
            http::get(app.address, "x", "/env").unwrap().field("MIREN_VERSION"),
            "v7"
        );
        assert_eq!(http::get(app.address, "x", "/nothing").unwrap().status, 404);
    }
}

#[test]
fn they_echo_bodies_of_both_kinds_on_one_connection() {
    for folder in samples() {
        let app = Running::start(folder, &[]);
        let mut connection = Connection::open(app.address).unwrap();
        connection
            .send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        assert_eq!(connection.response().unwrap().text(), "hello");
        connection
            .send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n")
            .unwrap();
        connection.send(b"6\r\npedia \r\n0\r\n\r\n").unwrap();
        assert_eq!(connection.response().unwrap().text(), "wikipedia ");
        connection.request("GET", "x", "/info", "").unwrap();
        assert_eq!(connection.response().unwrap().status, 200);
    }
}

#[test]
fn they_stream_and_sleep() {
    for folder in samples() {
        let app = Running::start(folder, &[]);
        let body = http::get(app.address, "x", "/sse?n=3&gap_ms=20").unwrap().text();
        let events: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(events.len(), 3, "{body}");
        let at = |n: usize| -> i64 {
            let event: serde_json::Value = serde_json::from_str(events[n]).unwrap();
            event["at_ns"].as_i64().unwrap()
        };
        // Two gaps of 20 ms; timers that count whole milliseconds may be early by one.
        assert!(at(2) - at(0) >= 38_000_000, "{body}");
        assert_eq!(
            http::get(app.address, "x", "/big?bytes=300001").unwrap().body.len(),
            300_001
        );
        let start = Instant::now();
        assert_eq!(http::get(app.address, "x", "/sleep?ms=50").unwrap().status, 200);
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}

#[test]
fn they_echo_websocket_messages_short_and_long() {
    for folder in samples() {
        let app = Running::start(folder, &[]);
        let mut socket = WebSocket::open(app.address, "x", "/ws").unwrap();
        assert_eq!(socket.echo("hello").unwrap(), "hello");
        let long = "x".repeat(1000);
        assert_eq!(socket.echo(&long).unwrap(), long);
        socket.close().unwrap();
    }
}

#[test]
fn they_crash_with_code_3_and_stop_on_sigterm_unless_told_not_to() {
    for (folder, again) in samples().into_iter().zip(samples()) {
        let mut app = Running::start(folder, &[]);
        assert!(http::get(app.address, "x", "/crash").is_err());
        assert_eq!(app.child.wait().unwrap().code(), Some(3));

        let mut app = Running::start(again, &[("IGNORE_SIGTERM", "1")]);
        process::signal(app.child.id(), Signal::SIGTERM);
        let mut line = String::new();
        app.stdout.read_line(&mut line).unwrap();
        assert!(line.contains("SIGTERM ignored"), "{line}");
        assert_eq!(http::get(app.address, "x", "/info").unwrap().status, 200);
    }
    for folder in samples() {
        let mut app = Running::start(folder, &[]);
        process::signal(app.child.id(), Signal::SIGTERM);
        assert_eq!(app.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn they_fail_at_the_start_when_told_to() {
    for folder in samples() {
        let mut child = command(&folder).env("EXIT_AT_START", "1").spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("EXIT_AT_START is set"), "{said}");

        let mut child = command(&folder).env("NEVER_LISTEN", "1").spawn().unwrap();
        let mut line = String::new();
        // Kept open: a program whose log goes nowhere may end for that reason.
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("not listening"), "{line}");
        process::signal(child.id(), Signal::SIGTERM);
        wait_until("the app that never listens to stop", Duration::from_secs(5), || {
            child.try_wait().unwrap().ok_or("it still runs")
        });
    }
}
