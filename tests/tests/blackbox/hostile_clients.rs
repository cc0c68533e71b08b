//! Clients that ask and do not finish, say nothing, or hide requests in bodies, and sandboxes killed in the middle of an answer: nobody
//! else notices.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use miren_bench::load::{Load, Options};
use miren_blackbox::http::{self, Connection};
use miren_blackbox::{AppFolder, Node, process, wait_until};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(60);

/// A server as most small ones of Python are: it writes head and body apart, and never reads the body of a GET.
const SERVER: &str = r#"
import http.server, os

class Plain(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        in_chunks = self.path == "/chunks"
        self.send_header(*(("Transfer-Encoding", "chunked") if in_chunks else ("Content-Length", str(len(body)))))
        self.end_headers()
        if self.command == "HEAD":
            return
        for part in (b"%x\r\n" % len(body), body, b"\r\n", b"0\r\n\r\n") if in_chunks else (body,):
            self.wfile.write(part)

    do_HEAD = do_DELETE = do_GET

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer.request_queue_size = 1024
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Plain).serve_forever()
"#;

fn start(name: &str, sandboxes: u32) -> (Node, String) {
    let node = Node::start();
    let app = AppFolder::empty(name).command("python3 server.py").fixed(sandboxes);
    fs::write(app.path().join("server.py"), SERVER).expect("writing the server");
    let host = format!("{name}.example.com");
    node.deploy_at(&app, &host);
    (node, host)
}

#[test]
fn f15_a_request_in_a_body_that_an_app_does_not_read_is_nobodys() {
    let (node, host) = start("deaf", 1);
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let framings = [
        format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            hidden.len()
        ),
    ];
    for method in ["GET", "HEAD", "DELETE"] {
        for framing in &framings {
            for _ in 0..10 {
                let mut hostile = Connection::open(node.http).expect("a connection");
                let sent = format!("{method} /hostile HTTP/1.1\r\nHost: {host}\r\n{framing}");
                hostile.send(sent.as_bytes()).expect("a request can be sent");
                assert_eq!(hostile.head().expect("an answer").status, 200, "{method}");
                for path in ["/one", "/two"] {
                    let answer = node.get(&host, path);
                    assert_eq!(
                        (answer.status, answer.text().as_str()),
                        (200, path),
                        "{method} {framing:?}"
                    );
                }
            }
        }
    }
    node.stop();
}

/// So many sandboxes are killed with answers under way that, where a half one is passed on, some client gets it.
const KILLS: usize = 30;
const SANDBOXES: usize = 2;

#[test]
fn f19_no_answer_is_cut_by_a_kill_between_its_head_and_its_body() {
    no_kill_is_seen_by_who_asks_for("/info");
}

#[test]
fn f19_no_answer_is_cut_by_a_kill_between_its_chunks() {
    no_kill_is_seen_by_who_asks_for("/chunks");
}

fn no_kill_is_seen_by_who_asks_for(path: &str) {
    let (node, host) = start("apart", 2);
    let mut options =
        Options::get(&format!("http://{}{path}", node.http), 200.0).expect("the address of a node is one");
    options.host = Some(host);
    let load = Load::start(options).expect("a load starts");
    let mut killed: Vec<String> = Vec::new();
    for round in 0..KILLS {
        let running = wait_until("two living sandboxes", SOON, || {
            let mut running = node.running("apart");
            running.retain(|sandbox| !killed.contains(&sandbox.id.to_string()));
            match running.len() {
                SANDBOXES => Ok(running),
                _ => Err(format!("{running:?}")),
            }
        });
        let victim = &running[round % SANDBOXES];
        process::signal(victim.pid.expect("a running sandbox has a process"), Signal::SIGKILL);
        killed.push(victim.id.to_string());
    }
    let report = load.stop().expect("a load ends");
    assert_eq!(report.failed, 0, "{report}");
    node.stop();
}

#[test]
fn f12_an_app_with_room_for_one_stays_reachable_beside_a_thousand_that_do_not_finish() {
    const CROWD: usize = 1_000;
    const HOST: &str = "one.example.com";
    let node = Node::start();
    let app = AppFolder::rust("one").and(
        "[services.web.concurrency]\nmode = \"auto\"\nrequests_per_instance = 1\nmin_instances = 1\nmax_instances = 1",
    );
    node.deploy_at(&app, HOST);
    let mut crowd = Vec::new();
    let kinds = [
        "POST /echo HTTP/1.1\r\nContent-Length: 10",
        "PUT /echo HTTP/1.1\r\nContent-Length: 1000000",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked",
        "GET /info HTTP/1.1\r\nContent-Length: 10",
    ];
    for kind in kinds.iter().cycle().take(CROWD) {
        let mut client = Connection::open(node.http).expect("a connection");
        client
            .send(format!("{kind}\r\nHost: {HOST}\r\n\r\n").as_bytes())
            .expect("a head can be sent");
        crowd.push(client);
    }
    for _ in 0..20 {
        let answer = node.get(HOST, "/info");
        assert_eq!((answer.status, answer.code()), (200, ""), "{}", answer.text());
    }
    drop(crowd);
    node.stop();
}

#[test]
fn f13_heads_that_never_end_take_no_more_than_their_limit() {
    const HEADS: usize = 400;
    /// All of them at the default limit of a head, twice; read without one they were seven times as much.
    const MOST: u64 = 2 * 400 * 64 * 1024;
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("heads").fixed(1), "heads.example.com");
    let proxy = node.proxy_pid();
    let before = process::resident(proxy);
    let endless = format!(
        "GET / HTTP/1.1\r\nHost: heads.example.com\r\nX-Endless: {}",
        "x".repeat(1_000_000)
    );
    let mut open = Vec::new();
    for _ in 0..HEADS {
        let mut client = Connection::open(node.http).expect("a connection");
        // One that is refused in the middle need not take the rest.
        let _ = client.send(endless.as_bytes());
        open.push(client);
    }
    assert_eq!(node.get("heads.example.com", "/info").status, 200);
    let grown = process::resident(proxy).saturating_sub(before);
    assert!(grown <= MOST, "{HEADS} unfinished heads take {grown} bytes");
    drop(open);
    node.stop();
}

/// A process that opens many connections, and does nothing with them from then on; ended when dropped.
pub struct Crowd {
    child: Child,
}

/// Each process has descriptors of its own. It goes on when it is refused, and gives up when nobody takes connections any more.
const SILENT: &str = r#"
import resource, socket, sys
port, first, count = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
request = sys.argv[4].encode() if len(sys.argv) > 4 else b""
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held, failed = [], 0
for number in range(first, first + count):
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_IP, 24, 1)
    s.settimeout(1)
    try:
        s.bind(("127.1.%d.%d" % (number // 500 // 200, number // 500 % 200 + 1), 0))
        s.connect(("127.0.0.1", port))
        if request:
            s.settimeout(60)
            s.sendall(request)
            s.recv(65536)
        held.append(s)
    except OSError:
        failed += 1
        if failed > 20:
            break
print(len(held), flush=True)
sys.stdin.read()
"#;

impl Crowd {
    fn start(port: u16, first: usize, count: usize) -> Self {
        Self::start_after(port, first, count, &[])
    }

    /// Each of them has its answer to a request before.
    fn start_after(port: u16, first: usize, count: usize, request: &[String]) -> Self {
        let arguments = [usize::from(port), first, count].map(|number| number.to_string());
        let arguments = arguments.iter().chain(request);
        Self::run(SILENT, &arguments.map(String::as_str).collect::<Vec<_>>())
    }

    /// A program of Python that prints how many connections there are, and ends with its input.
    pub fn run(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", program]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self {
            child: command.spawn().expect("starting python3"),
        }
    }

    /// How many there are, once there are as many as there will be.
    pub fn settled(&mut self) -> usize {
        let mut line = String::new();
        let output = self.child.stdout.as_mut().expect("its output is piped");
        BufReader::new(output).read_line(&mut line).expect("it says how many");
        line.trim().parse().expect("a number")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn f13_twenty_thousand_silent_connections_stop_neither_requests_nor_the_operator() {
    const HOST: &str = "crowded.example.com";
    const EACH: usize = 5_000;
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("crowded").fixed(1), HOST);
    let mut crowd: Vec<Crowd> = (0..4)
        .map(|part| Crowd::start(node.http.port(), part * EACH, EACH))
        .collect();
    let mut held = 0;
    for part in &mut crowd {
        held += part.settled();
        for _ in 0..20 {
            let answer = http::get(node.http, HOST, "/info");
            let answer = answer.unwrap_or_else(|error| panic!("beside {held} silent connections: {error}"));
            assert_eq!(answer.status, 200, "beside {held}: {}", answer.text());
        }
        assert!(node.proxy_is_ready(), "beside {held}");
        assert!(node.proxy_metrics().contains("miren_proxy_open_connections"));
    }
    // Who is refused at once may be, but it was a crowd.
    assert!(held >= 2 * EACH, "only {held} silent connections were made");
    drop(crowd);
    assert_eq!(node.get(HOST, "/info").status, 200);
    node.stop();
}

/// What a proxy holds for so many connections between requests, and what of it is left when they are gone.
#[test]
fn f13_idle_connections_cost_little_and_their_memory_comes_back() {
    const HOST: &str = "idle.example.com";
    const EACH: usize = 5_000;
    /// Bytes of a connection that waits for its next request.
    const MOST: usize = 3 * 1024;
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("idle").fixed(1), HOST);
    let proxy = node.proxy_pid();
    let request = [format!("GET /info HTTP/1.1\r\nHost: {HOST}\r\n\r\n")];
    // What is made once is there then.
    for _ in 0..100 {
        assert_eq!(node.get(HOST, "/info").status, 200);
    }
    let before = process::resident(proxy);
    let mut crowd: Vec<Crowd> = (0..2)
        .map(|part| Crowd::start_after(node.http.port(), part * EACH, EACH, &request))
        .collect();
    let held: usize = crowd.iter_mut().map(Crowd::settled).sum();
    assert!(held >= EACH, "only {held} connections were made");
    let open = usize::try_from(node.proxy_metric("miren_proxy_open_connections")).expect("a number of connections");
    let grown = usize::try_from(process::resident(proxy).saturating_sub(before)).expect("memory has a size");
    assert!(grown <= open * MOST, "{open} idle connections take {grown} bytes");
    drop(crowd);
    wait_until("its memory comes back", SOON, || {
        let left = usize::try_from(process::resident(proxy).saturating_sub(before)).expect("memory has a size");
        match left <= grown / 2 {
            true => Ok(()),
            false => Err(format!("{left} of {grown} bytes are still there")),
        }
    });
    node.stop();
}
