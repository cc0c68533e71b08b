//! A deploy with a fault somewhere in it: in the start of a sandbox, in the end of one, in a step, in a file.

use std::thread;

use miren_api::deploy::{Deploy, DeployStatus};
use miren_blackbox::Output;
use miren_fault::{Kind, Point};
use serde_json::Value;

use crate::bed::{APP, Bed, HOST, OTHER_HOST, items};
use crate::steady::Steady;
use crate::walk::Operation;

/// Points in a thread that the kernel may hold: what is left is removed once it comes back.
const HOLDS_A_THREAD: [Point; 3] = [Point::CreateSnapshot, Point::CreateImage, Point::CreateSpec];

/// The operation, and where.
pub struct Deploying(Bed);

impl Operation for Deploying {
    fn begin() -> Self {
        Self(Bed::new())
    }

    fn run(&mut self, point: Point, kind: Kind) -> String {
        let bed = &mut self.0;
        let (before, release) = (bed.pids(), bed.next_release());
        let last = newest(bed).id;
        let users = Steady::start(&bed.node, &[HOST, OTHER_HOST]);
        bed.arms.arm(point, kind);
        let (cli, folder) = (bed.node.cli.clone(), bed.app.path().to_owned());
        let deploy = thread::spawn(move || cli.deploy(&folder));
        bed.wait_hit(point);
        if kind == Kind::Hang {
            self.hangs(point);
        }
        let output = deploy.join().expect("who deploys");
        let bed = &mut self.0;
        let deployed = newest(bed);
        let has_switched = deployed.id != last && deployed.status == DeployStatus::Succeeded;
        let is_known = !output.text().contains("the next one knows whether it was saved");
        assert!(!is_known || (output.code == 0) == has_switched, "{output} {deployed:?}");
        if has_switched {
            bed.serves = release;
        }
        if HOLDS_A_THREAD.contains(&point) {
            // It can be given up, and not called back.
            bed.arms.disarm(point);
        }
        bed.settle();
        bed.arms.disarm(point);
        let died = bed.who_died(kind, before);
        users.stop(died.contains("proxy"));
        match deployed.id == last {
            true => format!("not accepted: {}{died}", error(&output)),
            false => format!("{}{died}", told(&output, &deployed)),
        }
    }

    fn end(self) {
        self.0.end();
    }
}

impl Deploying {
    /// Whatever hangs: who asks for something else is answered. What nobody can give up goes on then.
    fn hangs(&self, point: Point) {
        let bed = &self.0;
        assert_eq!(bed.node.get(HOST, "/info").status, 200);
        let status = bed.node.cli.call(&["node", "status"]);
        assert_eq!(status.code, 0, "{status}");
        if point.name().starts_with("store.") {
            bed.arms.disarm(point);
        }
    }
}

/// The last deploy of the app, as it is recorded when it is over.
fn newest(bed: &Bed) -> Deploy {
    miren_blackbox::wait_until("the deploy to be over", crate::bed::LIMIT, || {
        let output = bed.node.cli.call_json(&["deploy", "list", "-a", APP]);
        if output.code != 0 {
            return Err(output.to_string());
        }
        let newest = items(&output.parsed::<Value>()).into_iter().next().unwrap_or_default();
        let deploy: Deploy = serde_json::from_value(newest.clone()).map_err(|error| format!("{error}: {newest}"))?;
        match deploy.finished_at {
            Some(_) => Ok(deploy),
            None => Err(format!("{deploy:?}")),
        }
    })
}

/// For the table.
fn told(output: &Output, deployed: &Deploy) -> String {
    match output.code {
        0 => deployed.status.as_str().to_owned(),
        code => format!("{}, exit code {code}: {}", deployed.status.as_str(), error(output)),
    }
}

/// What who deploys was told.
fn error(output: &Output) -> String {
    let said: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    let message = said["error"]["message"].as_str().or(said["error"].as_str());
    message.map_or_else(|| output.stderr.clone(), str::to_owned)
}
