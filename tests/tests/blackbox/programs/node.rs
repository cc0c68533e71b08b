//! Express and ws, installed by npm and started by `npm start`: requests as everywhere, and WebSockets for as long as the app lets them.

use miren_blackbox::http::WebSocket;
use miren_blackbox::{AppFolder, Node};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{ends_by_itself, fetched, host, is_replaced_under_load};

/// A client of WebSockets by the makers of the server, which has them compressed.
struct Client {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Client {
    #[track_caller]
    fn open(node: &Node, app: &AppFolder) -> Self {
        let mut command = Command::new("/usr/bin/node");
        command
            .arg("client.js")
            .args([format!("ws://{}/ws", node.http), host(app)])
            .current_dir(app.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting node");
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut client = Self {
            child,
            input: input.expect("a pipe"),
            output: BufReader::new(output.expect("a pipe")).lines(),
        };
        assert_eq!(client.told(), "open permessage-deflate");
        client
    }

    /// What comes back.
    #[track_caller]
    fn send(&mut self, text: &str) -> String {
        writeln!(self.input, "{text}").expect("it reads");
        self.told()
    }

    #[track_caller]
    fn told(&mut self) -> String {
        self.output.next().expect("a line").expect("it is text")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended with its connection.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn express_is_replaced_under_load_and_its_websockets_stay_for_their_budget() {
    let app = AppFolder::sample("express").and("tunnel_timeout = \"10m\"").fixed(1);
    fetched::node_modules(&app);
    let node = Node::start();
    is_replaced_under_load(&node, &app, AppFolder::set_release);

    let [old] = node.wait_running(&app.name, 1).try_into().expect("one sandbox");
    let mut plain = WebSocket::open(node.http, &host(&app), "/ws").expect("a WebSocket");
    let mut packed = Client::open(&node, &app);
    let long = "a word again ".repeat(500);
    assert_eq!(packed.send(&long), format!("two {long}"));
    let app = app.with("tunnel_timeout = \"10m\"", "tunnel_timeout = \"0s\"");
    app.set_release("six");
    node.deploy(&app);
    assert_eq!(plain.echo("still there").expect("an echo"), "two still there");
    assert_eq!(packed.send("still there"), "two still there");
    plain.close().expect("a goodbye of both sides");
    drop(packed);
    ends_by_itself(&node, &old);

    let mut told = Client::open(&node, &app);
    assert_eq!(told.send("here"), "six here");
    app.set_release("ten");
    node.deploy(&app);
    assert_eq!(told.told(), "closed 1012 service restart");
    node.stop();
}
