//! The app and its preview under load while both are deployed again and again: each host gets its own releases, all answered.

use miren_bench::load::{Check, Load, Options};
use miren_blackbox::{AppFolder, Node};
use serde_json::Value;
use std::sync::{Arc, Mutex};

const HOST: &str = "shop.example.com";
/// Requests a second of each host.
const RATE: f64 = 500.0;
const ROUNDS: usize = 20;

/// Load on one host whose answers must be of releases that begin with `mark`, and never go back to an older one.
fn load(node: &Node, host: &str, mark: &'static str) -> Load {
    let newest = Arc::new(Mutex::new(Vec::<(std::time::Instant, u64)>::new()));
    let judge = move |seen: &miren_bench::load::Seen<'_>| {
        let text = String::from_utf8_lossy(seen.body).into_owned();
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let release = answer["release"].as_str().unwrap_or_default().to_owned();
        let number: Option<u64> = release.strip_prefix(mark).and_then(|number| number.parse().ok());
        let (200, Some(number)) = (seen.status, number) else {
            return Err(format!("{}: {text}", seen.status));
        };
        let mut newest = newest.lock().expect("nobody panics with it");
        let floor = newest
            .iter()
            .filter(|(at, _)| *at < seen.sent)
            .map(|(_, number)| *number)
            .max();
        if floor.is_some_and(|floor| number < floor) {
            return Err(format!("{release} after {mark}{floor:?}"));
        }
        if newest.iter().all(|(_, known)| *known < number) {
            newest.push((seen.received, number));
        }
        Ok(())
    };
    let mut options = Options::get(&format!("http://{}/info", node.http), RATE).expect("the address of a node is one");
    options.host = Some(host.to_owned());
    options.check = Some(Check::new(judge));
    Load::start(options).expect("a load starts")
}

#[test]
fn e10_interleaved_requests_get_their_own_version_while_both_are_deployed() {
    let node = Node::start();
    let app = || {
        let app = AppFolder::rust("shop");
        app.and("[services.web.concurrency]\nrequests_per_instance = 500")
    };
    let (active, branch) = (app().release("a0"), app().release("p0"));
    let folder = branch.path().to_str().expect("a path in UTF-8");
    let preview = || {
        let output = node.cli.call_json(&["deploy", "-d", folder, "--ephemeral", "pr1"]);
        assert_eq!(output.code, 0, "{output}");
    };
    node.deploy_at(&active, HOST);
    preview();
    let label = format!("pr1.{HOST}");
    assert_eq!(node.get(&label, "/info").field("release"), "p0");
    let loads = [load(&node, HOST, "a"), load(&node, &label, "p")];
    for round in 1..=ROUNDS {
        branch.set_release(&format!("p{round}"));
        preview();
        assert_eq!(node.get(&label, "/info").field("release"), format!("p{round}"));
        active.set_release(&format!("a{round}"));
        node.deploy(&active);
        assert_eq!(node.get(HOST, "/info").field("release"), format!("a{round}"));
    }
    for load in loads {
        let report = load.stop().expect("a load ends");
        println!("{report}");
        assert_eq!(report.failed, 0, "{report}");
        assert!(report.requests > 500, "{report}");
    }
    node.stop();
}
