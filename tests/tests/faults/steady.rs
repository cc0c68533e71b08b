//! The users of a node while something fails in it: each request they make is answered.

use miren_bench::load::{Load, Options};
use miren_blackbox::Node;

/// Requests a second to each host.
const RATE: f64 = 40.0;

/// What they ask of each host.
pub struct Steady(Vec<(String, Load)>);

impl Steady {
    pub fn start(node: &Node, hosts: &[&str]) -> Self {
        let start = |host: &&str| {
            let url = format!("http://{}/info", node.http);
            let mut options = Options::get(&url, RATE).expect("the address of a node is one");
            options.host = Some((*host).to_owned());
            ((*host).to_owned(), Load::start(options).expect("a load starts"))
        };
        Self(hosts.iter().map(start).collect())
    }

    /// All of it, without one that failed, unless who passes requests on has died.
    pub fn stop(self, proxy_died: bool) {
        for (host, load) in self.0 {
            let report = load.stop().expect("a load ends");
            assert!(report.requests > 0, "nobody asked {host}");
            assert!(proxy_died || report.failed == 0, "users of {host}: {report}");
        }
    }
}
