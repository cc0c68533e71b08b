//! A proxy that is replaced while it serves, with a fault on either side: one of the two serves on, and one only.

use miren_bench::load::{Load, Options};
use miren_blackbox::{SecondProxy, http, wait_until};
use miren_fault::{FOLDER, Kind, Point};

use crate::bed::{Bed, HOST, LIMIT};
use crate::walk::Operation;

/// The operation, and where.
pub struct Handing {
    proxy: SecondProxy,
    bed: Bed,
}

/// After so long it is given up that a successor serves: less than either side gives the other.
const GIVEN_UP: &[&str] = &["--timeout", "4s"];
/// Requests a second.
const RATE: f64 = 60.0;

impl Operation for Handing {
    fn begin() -> Self {
        let bed = Bed::new();
        let proxy = second(&bed);
        Self { proxy, bed }
    }

    fn run(&mut self, point: Point, kind: Kind) -> String {
        let (proxy, arms) = (&mut self.proxy, &self.bed.arms);
        let before = proxy.pid;
        let users = users(proxy);
        arms.arm(point, kind);
        let output = proxy.try_upgrade(&proxy.settings(), GIVEN_UP);
        self.bed.wait_hit(point);
        arms.disarm(point);
        let serves = wait_until("one proxy to be there", LIMIT, || match &proxy.living()[..] {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            several => Err(format!("{several:?}; {}", proxy.log())),
        });
        let died = dies(point, kind);
        let report = users.stop().expect("a load ends");
        assert!(died || report.failed == 0, "{report}\n{}", proxy.log());
        let said = match serves {
            None => {
                assert!(died, "nobody serves: {output:?}\n{}", proxy.log());
                // As their supervisor would.
                *proxy = second(&self.bed);
                "both ended, and another one was started".to_owned()
            }
            Some(pid) if pid == before => {
                assert!(!output.status.success(), "{output:?}");
                "the old one serves on".to_owned()
            }
            Some(pid) => {
                proxy.pid = pid;
                let told = if output.status.success() { "" } else { ", which nobody was told" };
                format!("the new one serves{told}")
            }
        };
        let answer = http::get(proxy.http, HOST, "/info").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        if proxy.pid != before && serves.is_some() {
            // What it says when it is ready is read by nobody: a new one begins with nothing unread.
            *proxy = second(&self.bed);
        }
        said
    }

    fn end(self) {
        drop(self.proxy);
        self.bed.end();
    }
}

fn second(bed: &Bed) -> SecondProxy {
    let folder = bed.arms.folder().to_str().expect("a path in UTF-8");
    SecondProxy::start_with(&bed.node, &[(FOLDER, folder)])
}

fn users(proxy: &SecondProxy) -> Load {
    let url = format!("http://{}/info", proxy.http);
    let mut options = Options::get(&url, RATE).expect("the address of a proxy is one");
    options.host = Some(HOST.to_owned());
    Load::start(options).expect("a load starts")
}

/// Whether one that has clients dies of it: what is in flight there is lost.
fn dies(point: Point, kind: Kind) -> bool {
    let accepts = matches!(point, Point::TakeSay | Point::TakeHear | Point::TakeFolder);
    matches!(kind, Kind::Panic | Kind::Kill) && (point.name().starts_with("give.") || accepts)
}
