//! Programs that people have, from Debian, PyPI and npm, deployed as people do it and under the load of clients that others wrote.

use miren_api::resource::{Sandbox, SandboxState};
use miren_blackbox::http::{Connection, Response};
use miren_blackbox::{AppFolder, Node, wait_until};
use std::time::Duration;

mod clients;
mod compiled;
mod fetched;
mod nginx;
mod node;
mod postgres;
mod python;

use clients::Clients;

const PATIENCE: Duration = Duration::from_secs(120);

/// Where a program is reached.
fn host(app: &AppFolder) -> String {
    format!("{}.example.com", app.name)
}

/// Deploys an app that answers `/info` with its release, and `/slow` with lines of it for a few seconds; then its next release, under
/// load. All of it is answered, what has begun at the old sandboxes ends there, and they end by themselves.
#[track_caller]
fn is_replaced_under_load(node: &Node, app: &AppFolder, set_release: impl Fn(&AppFolder, &str)) {
    let host = host(app);
    set_release(app, "one");
    node.deploy_at(app, &host);
    let old = node.running(&app.name);
    assert_ne!(old, [], "nothing runs");
    let clients = Clients::start(node.http, &host);
    clients.wait_for_a_round();
    let slow = Slow::begin(node, &host);
    set_release(app, "two");
    node.deploy(app);
    let now = node.get(&host, "/info");
    assert_eq!((now.status, now.text().trim()), (200, "two"));
    slow.ends_as_it_began("one");
    clients.wait_for_a_round();
    clients.stop();
    for sandbox in old {
        ends_by_itself(node, &sandbox);
    }
}

/// An answer of which the first bytes have come.
struct Slow {
    connection: Connection,
    head: Response,
}

impl Slow {
    #[track_caller]
    fn begin(node: &Node, host: &str) -> Self {
        let mut connection = Connection::open(node.http).expect("a connection");
        connection
            .request("GET", host, "/slow", "Connection: close\r\n")
            .expect("it is sent");
        let head = connection.head().expect("a head");
        assert_eq!(head.status, 200, "{head:?}");
        Self { connection, head }
    }

    #[track_caller]
    fn ends_as_it_began(mut self, release: &str) {
        let mut body = Vec::new();
        let end = self.connection.body(&self.head, |piece| {
            body.extend_from_slice(piece);
            true
        });
        let text = String::from_utf8_lossy(&body);
        let whole = text.lines().count() >= 15 && text.lines().all(|line| line == release);
        assert!(end.is_ok() && whole, "{end:?} after {text}");
    }
}

/// It was told to end, and did before it would have been killed.
#[track_caller]
fn ends_by_itself(node: &Node, sandbox: &Sandbox) {
    let ended = wait_until(&format!("{} to end", sandbox.id), PATIENCE, || {
        let all = node.sandboxes(sandbox.app.as_str());
        match all.iter().find(|other| other.id == sandbox.id) {
            Some(found) if found.state == SandboxState::Stopped => Ok(found.clone()),
            found => Err(format!("{found:?}")),
        }
    });
    let reason = ended.reason.unwrap_or_default();
    assert!(!reason.contains("killed"), "{} {reason}", sandbox.id);
}
