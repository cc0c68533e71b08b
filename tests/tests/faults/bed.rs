//! A node with two apps, one of which is left alone; and what must be true of it once whatever failed is over.

use std::thread;
use std::time::Duration;

use miren_api::resource::{Pool, PoolState, Sandbox, SandboxState};
use miren_blackbox::{AppFolder, Node, NodeOptions, wait_until};
use miren_fault::{FOLDER, Kind, Point};
use serde_json::Value;

use crate::arms::Arms;

/// The app that things are done to, and the other one.
pub const APP: &str = "walk";
pub const HOST: &str = "walk.example.com";
pub const OTHER: &str = "other";
pub const OTHER_HOST: &str = "other.example.com";
/// Sandboxes of each.
pub const SANDBOXES: usize = 2;
/// Limits of the app's own that are waited for.
const LIMITS: &str = "port_timeout = \"10s\"\nshutdown_timeout = \"3s\"";
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Longer than anything takes that recovers.
pub const LIMIT: Duration = Duration::from_secs(90);

/// The node, with its faults.
pub struct Bed {
    pub node: Node,
    pub arms: Arms,
    pub app: AppFolder,
    deploys: u32,
    /// The release that serves.
    pub serves: String,
}

/// Who was there before a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    control: Option<u32>,
    proxy: u32,
}

impl Bed {
    pub fn new() -> Self {
        let arms = Arms::new();
        let folder = arms.folder().to_str().expect("a path in UTF-8").to_owned();
        let node = NodeOptions::unique().env(FOLDER, &folder).start();
        let other = AppFolder::rust(OTHER).fixed(SANDBOXES as u32);
        node.deploy_at(&other, OTHER_HOST);
        let serves = "r0".to_owned();
        let app = AppFolder::rust(APP)
            .and(LIMITS)
            .fixed(SANDBOXES as u32)
            .release(&serves);
        node.deploy_at(&app, HOST);
        let bed = Self {
            node,
            arms,
            app,
            deploys: 0,
            serves,
        };
        bed.settle();
        bed
    }

    /// The next release, written into the app's folder.
    pub fn next_release(&mut self) -> String {
        self.deploys += 1;
        let release = format!("r{}", self.deploys);
        self.app.set_release(&release);
        release
    }

    pub fn pids(&self) -> Pids {
        let control = wait_until("control to listen", LIMIT, || {
            self.node.control_pid().ok_or("nobody does")
        });
        Pids {
            control: Some(control),
            proxy: self.node.proxy_pid(),
        }
    }

    /// Waits until somebody has come to the point.
    #[track_caller]
    pub fn wait_hit(&self, point: Point) {
        wait_until(&format!("somebody to come to {}", point.name()), LIMIT, || {
            match self.arms.was_hit(point) {
                true => Ok(()),
                false => Err("nobody has"),
            }
        });
    }

    /// Whoever met the fault: it must have died if that was to be. Said for the table.
    #[track_caller]
    pub fn who_died(&self, kind: Kind, before: Pids) -> &'static str {
        let now = self.pids();
        match (now.control != before.control, now.proxy != before.proxy) {
            (true, true) => panic!("both daemons died of one fault"),
            (true, false) => ", control died",
            (false, true) => ", the proxy died",
            (false, false) => {
                assert_ne!(kind, Kind::Kill, "nobody died");
                ""
            }
        }
    }

    /// Waits until everything is there once, as recorded, and nothing is there that belongs to nobody.
    #[track_caller]
    pub fn settle(&self) {
        wait_until("everything to be as it should", LIMIT, || self.look());
        for _ in 0..5 {
            let answer = self.node.get(HOST, "/info");
            let said = (answer.status, answer.field("release"));
            assert_eq!(said, (200, self.serves.clone()), "{answer:?}");
            assert_eq!(self.node.get(OTHER_HOST, "/info").status, 200);
        }
    }

    fn look(&self) -> Result<(), String> {
        let found = self.is_settled();
        if found.is_err() {
            // Each look is several processes: they take from the node what it needs to get there.
            thread::sleep(PAUSE);
        }
        found
    }

    fn is_settled(&self) -> Result<(), String> {
        let cli = &self.node.cli;
        let parsed = |arguments: &[&str]| {
            let output = cli.call_json(arguments);
            match output.code {
                0 => Ok(output),
                _ => Err(output.to_string()),
            }
        };
        let deploys: Value = parsed(&["deploy", "list", "-a", APP])?.parsed();
        if let Some(unfinished) = items(&deploys).iter().find(|deploy| deploy["finished_at"].is_null()) {
            return Err(format!("a deploy goes on: {unfinished}"));
        }
        let pools: Vec<Pool> = parsed(&["pool", "list"])?.parsed();
        let sandboxes: Vec<Sandbox> = parsed(&["sandbox", "list", "--all"])?.parsed();
        for app in [APP, OTHER] {
            each_is_there_once(app, &pools, &sandboxes)?;
        }
        let all = 2 * SANDBOXES;
        let counted = self.node.census("hello-rust");
        let right = |(kind, count): (&&str, &usize)| *count == all || (*kind != "app processes" && *count < all);
        match counted.iter().all(right) {
            true => Ok(()),
            false => Err(format!("for {all} sandboxes there are {counted:?}: {sandboxes:?}")),
        }
    }

    /// Deletes both apps: nothing is left of them, and nothing of the node after its end.
    #[track_caller]
    pub fn end(self) {
        for app in [APP, OTHER] {
            let deleted = self.node.cli.call(&["app", "delete", app, "--force"]);
            assert_eq!(deleted.code, 0, "{deleted}");
        }
        wait_until("nothing to be left of the apps", LIMIT, || {
            let counted = self.node.census("hello-rust");
            match counted.values().all(|count| *count == 0) {
                true => Ok(()),
                false => Err(format!("{counted:?}")),
            }
        });
        self.node.stop();
    }
}

fn each_is_there_once(app: &str, pools: &[Pool], sandboxes: &[Sandbox]) -> Result<(), String> {
    let wanted = |pool: &&Pool| pool.app.as_str() == app && pool.state != PoolState::Retiring;
    let wanted: Vec<&Pool> = pools.iter().filter(wanted).collect();
    let alive = |one: &&Sandbox| one.app.as_str() == app && !one.state.is_terminal();
    let alive: Vec<&Sandbox> = sandboxes.iter().filter(alive).collect();
    let [pool] = &wanted[..] else {
        return Err(format!("{app} has these pools: {wanted:?}, {alive:?}"));
    };
    let right = |one: &&Sandbox| one.pool == pool.id && one.state == SandboxState::Running;
    match alive.len() == SANDBOXES && alive.iter().all(right) {
        true => Ok(()),
        false => Err(format!("{app}: {pool:?}, {alive:?}")),
    }
}

/// What a list has, whether or not it has a page around it.
pub fn items(list: &Value) -> Vec<Value> {
    let array = list.as_array().or_else(|| list["items"].as_array());
    array.cloned().unwrap_or_default()
}
