//! A proxy is replaced while everybody uses it: nobody notices, and a successor that fails has changed nothing.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use miren_blackbox::http::{Connection, Response, WebSocket, get};
use miren_blackbox::{AppFolder, Mixed, Node, NodeOptions, SecondProxy, SupervisedControl, process, wait_until};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

const HOST: &str = "upgraded.example.com";
const UPGRADES: usize = 20;
/// A request that is under way through several upgrades, milliseconds.
const LONG: u32 = 5000;
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

fn node() -> Node {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("upgraded").fixed(2), HOST);
    node.wait_running("upgraded", 2);
    node
}

fn ask(connection: &mut Connection) -> io::Result<Response> {
    connection.request("GET", HOST, "/info", "")?;
    connection.response()
}

/// A connection that had an answer, and was not told that it ends.
#[track_caller]
fn kept(http: SocketAddr) -> Connection {
    let mut connection = Connection::open(http).expect("a connection");
    let answer = ask(&mut connection).expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    connection
}

#[test]
fn i9_twenty_upgrades_in_a_row_lose_nothing_of_a_mixed_load() {
    let node = node();
    let mut proxy = SecondProxy::start(&node);
    let http = proxy.http;
    let mixed = Mixed::start_at(http, HOST);
    let mut socket = WebSocket::open(http, HOST, "/ws").expect("a WebSocket opens");
    let long = move || {
        let mut connection = Connection::open(http)?;
        connection.request("GET", HOST, &format!("/sleep?ms={LONG}"), "")?;
        connection.response()
    };
    let mut before = Vec::new();
    let mut slow = Vec::new();
    for upgrade in 0..UPGRADES {
        slow.push(thread::spawn(long));
        let (mut kept, mut fresh) = (kept(http), Connection::open(http).expect("a connection"));
        before.push(proxy.upgrade());
        // Neither could know, and neither is cut under a request.
        for connection in [&mut kept, &mut fresh] {
            let answer = ask(connection).expect("it is served once more");
            assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        }
        let text = format!("after upgrade {upgrade}");
        assert_eq!(socket.echo(&text).expect("the WebSocket lives on"), text);
    }
    for request in slow {
        let answer = request
            .join()
            .expect("a client ends")
            .expect("a request that takes long is answered");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    let first = before.remove(0);
    assert!(process::is_alive(first), "it has the WebSocket");
    socket.close().expect("it ends in peace");
    let status = proxy.first_ended(LIMIT);
    assert_eq!(status.code(), Some(0), "everything was finished: {}", proxy.log());
    for pid in before {
        wait_until(&format!("process {pid} to end"), LIMIT, || {
            match process::is_alive(pid) {
                true => Err("it still runs"),
                false => Ok(()),
            }
        });
    }
    drop(proxy);
    node.stop();
}

/// A successor with these settings, asked for with these arguments, fails and says so.
struct Failing {
    what: &'static str,
    settings: String,
    arguments: &'static [&'static str],
    says: &'static str,
}

/// One for each way to fail, with the settings of a proxy that serves and an address that is taken.
fn failing(node: &Node, own: &str, taken: SocketAddr) -> Vec<Failing> {
    let file = |name: &str| node.folder().join(name);
    fs::write(file("other-abi"), vec![7; 4096]).expect("writing a file");
    nix::unistd::mkfifo(&file("nobody-writes"), Mode::S_IRWXU).expect("making a pipe");
    let line = |start: &str, with: String| {
        let lines = own
            .lines()
            .map(|line| if line.starts_with(start) { with.as_str() } else { line });
        lines.collect::<Vec<_>>().join("\n")
    };
    let slots = |place: &str| line("slots", format!("slots = \"file:{}\"", file(place).display()));
    let limits = |key: &str| format!("{own}\n[limits]\n{key} = 2000000000\n");
    let no_user = line("user", "user = \"nobody-of-that-name\"".into());
    let is_taken = line("http", format!("http = [\"{taken}\"]"));
    let failing = |what, settings, says| Failing {
        what,
        settings,
        arguments: &[],
        says,
    };
    vec![
        failing("a bad setting", limits("conections"), "limits.conections"),
        failing("more than there can be", limits("connections"), "limits.connections"),
        failing("a taken address", is_taken, "is in use by another process"),
        failing("no slot table", slots("nothing"), "slot table"),
        failing("a slot table of another ABI", slots("other-abi"), "slot table"),
        failing("no such user", no_user, "nobody-of-that-name"),
        Failing {
            arguments: &["--timeout", "1s"],
            ..failing("one that hangs", slots("nobody-writes"), "did not serve within 1s")
        },
    ]
}

#[test]
fn a_successor_that_fails_leaves_the_running_proxy_as_it_was() {
    let node = node();
    let mut proxy = SecondProxy::start(&node);
    let mixed = Mixed::start_at(proxy.http, HOST);
    let (pid, own) = (
        proxy.pid,
        fs::read_to_string(proxy.settings()).expect("reading settings"),
    );
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let file = node.folder().join("failing.toml");
    for failing in failing(&node, &own, taken.local_addr().expect("an address")) {
        let (what, says) = (failing.what, failing.says);
        fs::write(&file, &failing.settings).expect("writing settings");
        let output = proxy.try_upgrade(&file, failing.arguments);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {complained}");
        let is_said = complained.contains(says) && complained.contains("serves on");
        assert!(is_said, "{what}: {complained}");
        assert!(process::is_alive(pid), "{what}");
        let is_left = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.contains("failing.toml"))
        };
        wait_until("nothing of it to be left", LIMIT, || {
            match process::all().into_iter().find(is_left) {
                Some(pid) => Err(format!("{what}: process {pid}")),
                None => Ok(()),
            }
        });
    }
    // Nothing of all that is in the way of a good one.
    assert_eq!(proxy.upgrade(), pid);
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    assert_eq!(proxy.first_ended(LIMIT).code(), Some(0), "{}", proxy.log());
    drop(proxy);
    node.stop();
}

/// What a proxy keeps of routing and leases, none of which can be read any more.
#[track_caller]
fn spoil(folder: &Path) {
    let entries = fs::read_dir(folder).expect("listing a folder").flatten();
    let kept: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && !path.ends_with("lock"))
        .collect();
    assert!(!kept.is_empty(), "nothing is kept in {}", folder.display());
    for path in kept {
        fs::write(&path, "?").expect("spoiling a file");
    }
}

#[test]
fn a_successor_that_cannot_know_what_is_served_and_one_that_crashes_change_nothing() {
    let node = node();
    let mut proxy = SecondProxy::start(&node);
    let (http, pid, settings) = (proxy.http, proxy.pid, proxy.settings());
    let mut socket = WebSocket::open(http, HOST, "/ws").expect("a WebSocket opens");
    let mut control = SupervisedControl::keeping(&node);
    control.kill();
    spoil(&node.folder().join("second"));
    let failed = |output: Output, says: &str| {
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{complained}");
        let is_said = complained.contains(says) && complained.contains("the running proxy serves on");
        assert!(is_said, "{complained}");
        assert!(process::is_alive(pid));
        assert_eq!(get(http, HOST, "/info").expect("an answer").status, 200);
    };
    // It has the sockets, and ends as one does that panics.
    let crashed = thread::scope(|scope| {
        let upgrade = scope.spawn(|| proxy.try_upgrade(&settings, &[]));
        wait_until("a successor to have the sockets", LIMIT, || match proxy.log() {
            log if log.contains("a successor asks for the sockets") => Ok(()),
            log => Err(log),
        });
        let is_it = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("take-over") && line.contains(&*settings.to_string_lossy())
        };
        let successor = process::all().into_iter().find(is_it).expect("a successor");
        process::signal(successor, Signal::SIGABRT);
        upgrade.join().expect("an upgrade ends")
    });
    failed(crashed, "ended before it served");
    // It waits to know what is served, no longer than it gives itself.
    failed(proxy.try_upgrade(&settings, &[]), "not ready within 30s");
    assert_eq!(socket.echo("hello").expect("the WebSocket lives on"), "hello");
    control.start();
    assert_eq!(proxy.upgrade(), pid);
    assert_eq!(get(http, HOST, "/info").expect("an answer").status, 200);
    drop((control, proxy));
    node.stop();
}

#[test]
fn a_successor_serves_on_whatever_becomes_of_the_one_before_it() {
    let node = node();
    let mut proxy = SecondProxy::start(&node);
    let http = proxy.http;
    let _tunnel = WebSocket::open(http, HOST, "/ws").expect("a WebSocket opens");
    let first = proxy.upgrade();
    process::kill_and_wait(first);
    assert_eq!(get(http, HOST, "/info").expect("an answer").status, 200);
    // Told to stop, it takes no longer than its times, and says that nothing was cut.
    process::signal(proxy.pid, Signal::SIGQUIT);
    wait_until("the successor to end", LIMIT, || match process::is_alive(proxy.pid) {
        true => Err("it still runs"),
        false => Ok(()),
    });
    // In the log of the first one, which has not come to its last phase.
    assert!(proxy.log().contains("phase=\"exit\""), "{}", proxy.log());
    let output = proxy.try_upgrade(&proxy.settings(), &[]);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complained}");
    let is_said = complained.contains("no proxy can be asked") && complained.contains("no proxy runs on");
    assert!(is_said && !complained.contains("serves on"), "{complained}");
    drop(proxy);
    node.stop();
}

/// Puts a program in the place of another, whole at once, as a build does.
fn install(program: &Path, content: impl AsRef<[u8]>) {
    let new = program.with_extension("new");
    fs::write(&new, content).expect("writing a program");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("making it one that can be run");
    fs::rename(new, program).expect("installing it");
}

#[test]
fn miren_dev_replaces_its_proxy_when_the_program_has_changed() {
    let options = NodeOptions::unique().own_programs();
    let program = options.binaries().path("miren-proxy");
    let node = options.start();
    node.deploy_at(&AppFolder::rust("upgraded").fixed(2), HOST);
    node.wait_running("upgraded", 2);
    let mixed = Mixed::start(&node, HOST);
    let mut socket = WebSocket::open(node.http, HOST, "/ws").expect("a WebSocket opens");
    let said = |what: &str| {
        wait_until(what, LIMIT, || match node.log() {
            log if log.contains(what) => Ok(()),
            log => Err(log),
        });
    };
    let whole = fs::read(&program).expect("reading a program");
    install(&program, "#!/bin/sh\necho 'error: not today' >&2\nexit 1\n");
    said("the new one does not serve: ended (exit status: 1): not today; the old one does");
    install(&program, whole);
    said("has changed on disk: the new one serves");
    // By hand it is not replaced: the successor would outlive `miren dev`, which would start another one.
    let settings = node.folder().join("proxy.toml");
    let by_hand = Command::new(&program)
        .arg("--config")
        .arg(settings)
        .arg("upgrade")
        .output();
    let by_hand = by_hand.expect("starting an upgrade");
    let why = String::from_utf8_lossy(&by_hand.stderr);
    assert!(!by_hand.status.success() && why.contains("replaces it itself"), "{why}");
    assert_eq!(socket.echo("hello").expect("the WebSocket lives on"), "hello");
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    // With the old process there, too.
    node.stop();
}
