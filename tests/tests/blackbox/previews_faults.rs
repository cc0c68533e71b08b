//! Previews of a node whose store cannot be written: what was asked for is refused with a reason, and what serves goes on.

use miren_blackbox::{AppFolder, Node, wait_until};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const HOST: &str = "shop.example.com";
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody else writes the store of a node for as long as this lives.
struct Locked(Child);

impl Locked {
    #[track_caller]
    fn new(node: &Node) -> Self {
        let hold = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); \
                    print('held', flush=True); sys.stdin.read()";
        let file = node.folder().join("data/control.db");
        let mut child = Command::new("python3")
            .args(["-c", hold])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting python3");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it says when it has the lock");
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn e3_a_lookup_that_fails_is_a_500_that_says_so_and_never_the_default_app() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1).release("active");
    node.deploy_at(&app, HOST);
    app.set_release("preview");
    node.preview(&app, &["pr1"]);
    let host = format!("pr1.{HOST}");
    let locked = Locked::new(&node);
    let response = node.get(&host, "/info");
    assert_eq!(
        (response.status, response.code()),
        (500, "lookup_failed"),
        "{response:?}"
    );
    assert_eq!(
        node.get(HOST, "/info").field("release"),
        "active",
        "what serves goes on"
    );
    drop(locked);
    wait_until("the preview", PATIENCE, || match node.get(&host, "/info") {
        response if response.status == 200 && response.field("release") == "preview" => Ok(()),
        response => Err(format!("{response:?}")),
    });
    node.stop();
}
