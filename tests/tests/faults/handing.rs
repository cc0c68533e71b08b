//! A proxy that is replaced while it serves, with a fault on either side: one of the two serves on, and one only.

use miren_bench::load::{Load, Options};
use miren_blackbox::{Binaries, SecondProxy, http, wait_until};
use miren_fault::{FOLDER, Kind, Point};

use crate::bed::{Bed, HOST, LIMIT};
use crate::walk::Operation;

/// The operation, and where.
pub struct Handing {
    bed: Bed,
    /// None between two.
    proxy: Option<SecondProxy>,
}

/// After so long it is given up that a successor serves, where something hangs: about what either side gives the other, and far more
/// than it takes to get there.
const GIVEN_UP: &[&str] = &["--timeout", "10s"];
/// Requests a second.
const RATE: f64 = 60.0;

impl Operation for Handing {
    fn begin() -> Self {
        let bed = Bed::new();
        Self { bed, proxy: None }
    }

    fn run(&mut self, point: Point, kind: Kind) -> String {
        let proxy = self.proxy.take().unwrap_or_else(|| second(&self.bed));
        let users = users(&proxy);
        self.bed.arms.arm(point, kind);
        let arguments = if kind == Kind::Hang { GIVEN_UP } else { &[] };
        let output = proxy.try_upgrade(&proxy.settings(), arguments);
        assert!(self.bed.arms.disarm(point), "nobody came to it: {output:?}");
        let serves = one_serves(&proxy);
        let report = users.stop().expect("a load ends");
        let died = dies(point, kind);
        assert!(died || report.failed == 0, "{report}\n{}", proxy.log());
        let is_told = output.status.success();
        match serves {
            Some(pid) if pid == proxy.pid => {
                assert!(!is_told, "{output:?}");
                self.proxy = Some(proxy);
                "the old one serves on".to_owned()
            }
            Some(_) if is_told => "the new one serves".to_owned(),
            Some(_) => "the new one serves, which nobody was told".to_owned(),
            None => {
                assert!(died, "nobody serves: {output:?}\n{}", proxy.log());
                "both ended: their supervisor starts another one".to_owned()
            }
        }
    }

    fn end(self) {
        drop(self.proxy);
        self.bed.end();
    }
}

/// The one process that is there in the end, which answers; none when all have ended.
#[track_caller]
fn one_serves(proxy: &SecondProxy) -> Option<u32> {
    wait_until("one proxy to be there, and to answer", LIMIT, || {
        let answer = http::get(proxy.http, HOST, "/info").map(|answer| answer.status);
        match (&proxy.living()[..], answer) {
            ([], _) => Ok(None),
            ([one], Ok(200)) => Ok(Some(*one)),
            (several, answer) => Err(format!("{several:?}, {answer:?}; {}", proxy.log())),
        }
    })
}

fn second(bed: &Bed) -> SecondProxy {
    let folder = bed.arms.folder().to_str().expect("a path in UTF-8");
    SecondProxy::start_of(&bed.node, Binaries::find(), &[(FOLDER, folder)])
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
