//! Requests that pretend, or that two readers would take for two things: what is unclear reaches no app, and what is pretended
//! does not either.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use miren_blackbox::http::{self, Connection};
use miren_blackbox::{AppFolder, Node, process, request_lines, wait_until};
use nix::sys::signal::Signal;

use crate::hostile_clients::Crowd;
use crate::unusual_clients::{HOST, after, mirror};

#[test]
fn f12_an_answer_that_is_no_upgrade_gives_the_place_back_although_one_was_asked_for() {
    const CROWD: usize = 200;
    const ONE: &str = "upgrade.example.com";
    let node = Node::start();
    let app = AppFolder::rust("upgrade").and(
        "[services.web.concurrency]\nmode = \"auto\"\nrequests_per_instance = 1\nmin_instances = 1\nmax_instances = 1",
    );
    node.deploy_at(&app, ONE);
    let mut crowd = Vec::new();
    for kind in ["GET /info HTTP/1.1", "POST /echo HTTP/1.1\r\nContent-Length: 10"]
        .iter()
        .cycle()
        .take(CROWD)
    {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
        let mut client = after(
            node.http,
            format!("{kind}\r\nHost: {ONE}\r\n{upgrade}\r\n\r\n").as_bytes(),
        );
        if kind.starts_with("GET") {
            assert_eq!(client.head().expect("an answer").status, 200);
        }
        crowd.push(client);
    }
    for _ in 0..20 {
        let answer = node.get(ONE, "/info");
        assert_eq!((answer.status, answer.code()), (200, ""), "{}", answer.text());
    }
    drop(crowd);
    node.stop();
}

#[test]
fn f17_what_two_readers_could_take_for_two_things_reaches_no_app() {
    let node = mirror();
    let of = |lines: &str| format!("POST /unclear HTTP/1.1\r\n{lines}\r\n\r\nabc");
    for lines in [
        format!("Host: {HOST}\r\nContent-Length: 3, 3"),
        format!("Host: {HOST}\r\nContent-Length: 3\r\nContent-Length: 3"),
        format!("Host: {HOST}\r\nContent-Length: +3"),
        format!("Host: {HOST}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked"),
        format!("Host: {HOST}\r\nTransfer-Encoding: gzip, chunked"),
        format!("Host: {HOST}\r\nTransfer-Encoding : chunked"),
        format!("Host: {HOST}\r\nX-A: b\r\n Content-Length: 3"),
        format!("Host: {HOST}\nContent-Length: 3"),
        format!("Host: {HOST}:80:80\r\nContent-Length: 3"),
        format!("Host: {HOST}:99999\r\nContent-Length: 3"),
        "Host: [mirror.example.com\r\nContent-Length: 3".to_owned(),
        "Host: mirror..example.com\r\nContent-Length: 3".to_owned(),
        format!("Host: {HOST}\r\nHost: {HOST}\r\nContent-Length: 3"),
        "Content-Length: 3".to_owned(),
    ] {
        let mut client = after(node.http, of(&lines).as_bytes());
        let answer = client.response().unwrap_or_else(|error| panic!("{lines}: {error}"));
        assert_eq!((answer.status, answer.code()), (400, "bad_request"), "{lines}");
        // Nothing behind it is taken for a request. A reset says so as well as an end does.
        assert!(client.rest().map_or(true, |rest| rest.is_empty()), "{lines}");
    }
    let asked = node.get(HOST, "/asked").text();
    assert!(!asked.contains("/unclear"), "{asked}");
    node.stop();
}

#[test]
fn f17_a_stranger_cannot_say_for_whom_it_asks() {
    let node = mirror();
    let claims = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X_Forwarded_For",
        "X-Real-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Forwarded",
        "Proxy",
        "Remote-User",
        "X-Request-Id",
    ];
    let lines: String = claims.iter().map(|name| format!("{name}: pretended\r\n")).collect();
    let sent = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Mine: kept\r\nUpgrade: websocket\r\n{lines}\r\n");
    let answer = after(node.http, sent.as_bytes()).response().expect("an answer");
    let told = answer.text();
    assert_eq!(answer.status, 200, "{told}");
    assert!(!told.contains("pretended"), "{told}");
    let told = told.to_ascii_lowercase();
    assert!(
        told.contains("\r\nx-mine: kept\r\n") && told.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"),
        "{told}"
    );
    // Without the word of `Connection` it belongs to nobody, and none is added.
    assert!(
        !told.contains("\r\nupgrade:") && !told.contains("\r\nconnection: upgrade"),
        "{told}"
    );
    node.stop();
}

/// What the proxy has to know before it calls a silence one.
const ANSWERS: usize = 100;
/// So many, that each of two sandboxes has some.
const DELETES: usize = 16;

#[test]
fn f16_what_changes_something_is_asked_of_one_sandbox_however_silent_it_is() {
    const SILENT: &str = "silent.example.com";
    let node = Node::start();
    let app = AppFolder::rust("silent").and("drain_timeout = \"60s\"").fixed(2);
    node.deploy_at(&app, SILENT);
    let sandboxes = node.wait_running("silent", 2);
    for _ in 0..ANSWERS {
        assert_eq!(node.get(SILENT, "/info").status, 200);
    }
    let frozen = sandboxes[0].pid.expect("a running sandbox has a process");
    process::signal(frozen, Signal::SIGSTOP);
    let asked = |method: &'static str, number: usize| {
        let address = node.http;
        thread::spawn(move || {
            let mut client = Connection::open(address).expect("a connection");
            let path = format!("/info?{method}={number}");
            client
                .request(method, SILENT, &path, "Connection: close\r\n")
                .expect("a request can be sent");
            client.response()
        })
    };
    let deletes: Vec<_> = (0..DELETES).map(|number| asked("DELETE", number)).collect();
    // What only reads leaves a silent sandbox: when all of it is answered, what may not had time to.
    let gets: Vec<_> = (0..DELETES).map(|number| asked("GET", number)).collect();
    for get in gets {
        let answer = get.join().expect("a client ends").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    process::signal(frozen, Signal::SIGCONT);
    for delete in deletes {
        // How it ends is its sandbox's affair.
        let _ = delete.join().expect("a client ends");
    }
    let told = || {
        let mut counts = [0; DELETES];
        for line in request_lines(&node.cli, "silent") {
            let number = line
                .request
                .strip_prefix("DELETE /info?DELETE=")
                .map(str::parse::<usize>);
            if let Some(Ok(number)) = number {
                counts[number] += 1;
            }
        }
        counts
    };
    let counts = wait_until("each DELETE to be told of", Duration::from_secs(60), || match told() {
        counts if counts.iter().all(|count| *count > 0) => Ok(counts),
        counts => Err(format!("{counts:?}")),
    });
    assert_eq!(counts, [1; DELETES], "one ran twice");
    assert_eq!(
        http::get(node.http, SILENT, "/info").expect("it is answered").status,
        200
    );
    node.stop();
}

/// Asks for much, has little room for it, and reads nothing; says when all have asked, and ends with its input.
const READS_NOTHING: &str = r#"
import resource, socket, sys
port, host, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for number in range(count):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", port))
    s.sendall(("GET /big?bytes=1000000000 HTTP/1.1\r\nHost: %s\r\n\r\n" % host).encode())
    held.append(s)
print(len(held), flush=True)
sys.stdin.read()
"#;

#[test]
fn f12_an_app_with_room_for_one_stays_reachable_beside_a_thousand_that_do_not_read() {
    const CROWD: &str = "1000";
    const ONE: &str = "generous.example.com";
    let node = Node::start();
    let app = AppFolder::rust("generous").and(
        "[services.web.concurrency]\nmode = \"auto\"\nrequests_per_instance = 1\nmin_instances = 1\nmax_instances = 1",
    );
    node.deploy_at(&app, ONE);
    let mut crowd = Crowd::run(READS_NOTHING, &[&node.http.port().to_string(), ONE, CROWD]);
    assert_eq!(crowd.settled().to_string(), CROWD);
    for _ in 0..20 {
        let answer = wait_until("a place in the queue", Duration::from_secs(60), || {
            // It is as long as the crowd.
            match node.get(ONE, "/info") {
                answer if answer.code() == "queue_full" => Err(answer.text()),
                answer => Ok(answer),
            }
        });
        assert_eq!((answer.status, answer.code()), (200, ""), "{}", answer.text());
    }
    assert!(node.proxy_metric("miren_proxy_slow_readers_total") > 0);
    drop(crowd);
    node.stop();
}

/// The lowest number that no descriptor of a process has.
fn first_free(pid: u32) -> u32 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let numbers: BTreeSet<u32> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    (0..)
        .find(|number| !numbers.contains(number))
        .expect("some number is free")
}

/// As the user that the process has become: it may not be changed by others without a capability that not every root has.
fn limit_descriptors(pid: u32, limit: &str) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let id = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let first = line.and_then(|line| line.split_whitespace().next());
        first
            .and_then(|id| id.parse().ok())
            .expect("a process has a user and a group")
    };
    let mut command = Command::new("prlimit");
    command.uid(id("Uid:")).gid(id("Gid:"));
    command.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]);
    let output = command.output().expect("starting prlimit");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn f13_a_request_for_which_there_is_no_descriptor_gets_that_of_a_silent_connection() {
    const FULL: &str = "full.example.com";
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("full").fixed(1), FULL);
    let proxy = node.proxy_pid();
    // With `Upgrade` each has a connection of its own to the app, which answers it as any other.
    let request = format!("GET /info HTTP/1.1\r\nHost: {FULL}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut clients: Vec<Connection> = (0..200).map(|_| after(node.http, request.as_bytes())).collect();
    for client in &mut clients {
        assert_eq!(client.response().expect("an answer").status, 200);
    }
    limit_descriptors(proxy, &first_free(proxy).to_string());
    // Those that have been silent for the shortest time: all others give way before them.
    for client in clients.iter_mut().rev().take(5) {
        client.send(request.as_bytes()).expect("the connection is kept");
        let answer = client.response().expect("an answer");
        assert_eq!((answer.status, answer.code()), (200, ""), "{}", answer.text());
    }
    limit_descriptors(proxy, "4096");
    assert_eq!(node.get(FULL, "/info").status, 200);
    node.stop();
}
