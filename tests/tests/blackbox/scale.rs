//! From no sandbox to as many as there may be, back, and there again: whatever is asked is answered, nothing is left.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use miren_blackbox::http::{Connection, Response, WebSocket};
use miren_blackbox::{AppFolder, Mixed, Node, wait_until};

const HOST: &str = "scale.example.com";
const BESIDE: &str = "beside.example.com";
/// As many as the app may have, each of which takes one request.
const MOST: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);

/// Something a sandbox has begun to answer and goes on with for as long as it is told to.
enum Held {
    Upload(Connection),
    Socket(WebSocket),
}

impl Held {
    /// Returns once a sandbox answers.
    fn begin(address: SocketAddr, number: usize) -> io::Result<Self> {
        if number.is_multiple_of(2) {
            return WebSocket::open(address, HOST, "/ws").map(Self::Socket);
        }
        let mut upload = Connection::open(address)?;
        upload.request("POST", HOST, "/echo", "Transfer-Encoding: chunked\r\n")?;
        upload.send(b"5\r\nfirst\r\n")?;
        Ok(Self::Upload(upload))
    }

    fn end(self) -> io::Result<()> {
        let mut upload = match self {
            Self::Upload(upload) => upload,
            Self::Socket(mut socket) => {
                let back = socket.echo("last")?;
                assert_eq!(back, "last");
                return socket.close();
            }
        };
        upload.send(b"4\r\nlast\r\n0\r\n\r\n")?;
        let Response { status, body, .. } = upload.response()?;
        assert_eq!((status, body.as_slice()), (200, b"firstlast".as_slice()));
        Ok(())
    }
}

/// So many, begun at the same time.
#[track_caller]
fn hold(node: &Node, count: usize) -> Vec<Held> {
    let begin = |number| {
        let address = node.http;
        thread::spawn(move || Held::begin(address, number))
    };
    let begun: Vec<_> = (0..count).map(begin).collect();
    let begun = begun.into_iter().map(|thread| thread.join().expect("a client goes on"));
    begun.collect::<io::Result<_>>().expect("each is taken")
}

/// Nothing of the app is left but records; its neighbour has its one sandbox.
#[track_caller]
fn wait_until_empty(node: &Node) {
    wait_until("no sandbox to be left", LIMIT, || {
        let mut alive = node.sandboxes("scale");
        alive.retain(|sandbox| !sandbox.state.is_terminal());
        let counted = node.census("hello-rust");
        let extra = counted.values().any(|count| *count > 1);
        if alive.is_empty() && !extra && counted["app processes"] == 1 {
            return Ok(());
        }
        Err(format!("{} are alive: {alive:?}, {counted:?}", alive.len()))
    });
}

#[test]
fn r6_from_none_to_the_most_back_and_there_again() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("beside").fixed(1), BESIDE);
    let mixed = Mixed::start(&node, BESIDE);
    let app = AppFolder::rust("scale").and(&format!(
        "[services.web.concurrency]\nmode = \"auto\"\nrequests_per_instance = 1\nmax_instances = {MOST}\n\
         scale_down_delay = \"1s\""
    ));
    node.deploy_at(&app, HOST);
    for round in 0..2 {
        wait_until_empty(&node);
        let held = hold(&node, MOST);
        node.wait_running("scale", MOST);
        // One more than there is room for waits, and has its turn.
        let mut waiting = Connection::open(node.http).expect("the proxy listens");
        let sent = waiting.request("GET", HOST, "/info", "");
        sent.expect("the proxy takes requests");
        for one in held {
            one.end().expect("what was begun is ended");
        }
        let response = waiting.response().expect("it is answered");
        assert_eq!(response.status, 200, "round {round}: {response:?}");
    }
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    let pools = node.pools("scale");
    assert!(pools.len() == 1 && pools[0].crash_count == 0, "{pools:?}");
    node.stop();
}
