//! The story of a bug, from its typing error to a deleted app: each step that once went wrong, in the order in which it did.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use miren_api::resource::{App, Disk, DiskState, Pool, PoolState, Route, Sandbox, SandboxState};
use miren_blackbox::leftovers::{self, Leftover};
use miren_blackbox::{AppFolder, Node, Output, process, wait_until};
use serde_json::{Value, json};

const HOST: &str = "ledger.example.com";
const APP: &str = "ledger";
const PATIENCE: Duration = Duration::from_secs(60);
const UNKNOWN_KEY: &str = "unknown key \"size\"; did you mean \"size_gb\"?";
const NO_DISK: &str = "disk \"data\" does not exist; set size_gb to create it";

/// The app with a disk that is kept as `more` says.
fn ledger(more: &str) -> AppFolder {
    let disk = format!("[[services.web.disks]]\nname = \"data\"\nmount_path = \"/data\"\n{more}");
    AppFolder::ledger(APP).and(&disk)
}

/// What a refusal says, as text without JSON's escapes.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_ne!(output.code, 0, "{output}");
    output.text().replace("\\\"", "\"")
}

fn disks(node: &Node) -> Vec<Disk> {
    node.cli.json(&["disk", "list"])
}

/// What the kernel and the node's own folder have of its disks.
fn traces(node: &Node) -> Vec<String> {
    let of_disks = |leftover: &Leftover| match leftover {
        Leftover::Loop { .. } => true,
        Leftover::Mount(at) => at.components().any(|part| part.as_os_str() == "disks"),
        _ => false,
    };
    let mut found = node.leftovers();
    found.retain(of_disks);
    let files = fs::read_dir(node.folder().join("data/disks")).expect("the folder of the disks");
    let files = files.flatten().map(|file| file.path().display().to_string());
    // Beside the disks there is the lock of their folder.
    let disks = files.filter(|file| file.contains(APP));
    leftovers::describe(&found)
        .lines()
        .map(str::to_owned)
        .chain(disks)
        .collect()
}

#[track_caller]
fn nothing_was_made(node: &Node) {
    assert_eq!(node.cli.json::<Vec<App>>(&["app", "list"]), []);
    assert_eq!(node.cli.json::<Vec<Pool>>(&["pool", "list"]), []);
    assert_eq!(node.cli.json::<Vec<Sandbox>>(&["sandbox", "list", "--all"]), []);
    assert_eq!((disks(node), traces(node)), (Vec::new(), Vec::new()));
}

#[test]
fn b1_b2_b3_b4_b5_b6_a_misspelt_disk_from_its_first_deploy_to_the_deletion_of_its_app() {
    let node = Node::start();
    a_misspelt_size_is_refused(&node);
    an_old_version_without_size_is_refused(&node);
    let fixed = ledger("size_gb = 1");
    node.deploy_at(&fixed, HOST);
    assert_eq!(node.get(HOST, "/append?n=7").status, 200);
    holds_the_disk(&node);

    let record = Hidden::record_of(&node);
    let last = a_volume_that_cannot_be_prepared_is_a_crash(&node);
    record.back();
    node.deploy(&fixed);
    let again = holds_the_disk(&node);
    let until = last.cooldown_until.expect("it waited");
    assert!(
        again.created_at < until,
        "the fixed deploy waited too: {again:?}, {last:?}"
    );
    assert_eq!(node.get(HOST, "/numbers").field("numbers"), "[7]");

    let output = node.cli.call(&["app", "delete", APP, "-f"]);
    assert_eq!(output.code, 0, "{output}");
    wait_until("the app to leave nothing", PATIENCE, || {
        let (apps, disks, traces) = (node.cli.json::<Vec<App>>(&["app", "list"]), disks(&node), traces(&node));
        match apps.is_empty() && disks.is_empty() && traces.is_empty() {
            true => Ok(()),
            false => Err(format!("{apps:?} {disks:?} {traces:?}")),
        }
    });
    let routes: Vec<Route> = node.cli.json(&["route", "list"]);
    assert_eq!(routes, []);
    node.stop();
}

/// B1: by every way there is into control.
fn a_misspelt_size_is_refused(node: &Node) {
    let typo = ledger("size = 20");
    let told = refused(&node.cli.deploy(typo.path()));
    assert!(told.contains(UNKNOWN_KEY), "{told}");
    nothing_was_made(node);
    // Without the CLI, which looks at the folder before it sends it.
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", typo.path()).expect("an archive");
    let (_, sent) = ask(node, "/v1/artifacts", &tar.into_inner().expect("an archive"));
    let digest = sent["digest"].as_str().unwrap_or_else(|| panic!("{sent}"));
    let request = json!({ "artifact": digest }).to_string();
    let (status, told) = ask(node, "/v1/apps/ledger/deploys", request.as_bytes());
    assert!((400..500).contains(&status), "{status}: {told}");
    assert_eq!(told["error"]["code"], "invalid_config", "{told}");
    let message = told["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(UNKNOWN_KEY), "{told}");
    nothing_was_made(node);
}

/// POSTs to control's socket with nothing of ours between; the status and the JSON of the answer.
#[track_caller]
fn ask(node: &Node, path: &str, body: &[u8]) -> (u16, Value) {
    let socket = node.cli.server.trim_start_matches("unix:");
    let mut stream = UnixStream::connect(socket).expect("control listens");
    let kind = if path.ends_with("artifacts") { "x-tar" } else { "json" };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: control\r\nContent-Type: application/{kind}\r\nContent-Length: {}\r\n\
         Idempotency-Key: a-key\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers with text");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer}"));
    (status.expect("a status"), body)
}

/// B5: a version that was deployed when there was a disk, and is wanted again when there is none.
fn an_old_version_without_size_is_refused(node: &Node) {
    node.deploy(&ledger("size_gb = 1"));
    let old = node.deploy(&ledger(""));
    let without = node.deploy(&AppFolder::ledger(APP).env("BOOK", "/tmp/book"));
    wait_until("the disk to be free", PATIENCE, || match &disks(node)[..] {
        [disk] if disk.state == DiskState::Detached => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let output = node.cli.call(&["disk", "delete", "data", "-a", APP, "-f"]);
    assert_eq!(output.code, 0, "{output}");
    let before: Vec<Sandbox> = node.sandboxes(APP);
    for again in [
        &["deploy", "-a", APP, "--version", &old.version][..],
        &["rollback", "-a", APP, "--to", &old.version],
    ] {
        let told = refused(&node.cli.call_json(again));
        assert!(told.contains(NO_DISK), "{told}");
    }
    let app: App = node.cli.json(&["app", "status", "-a", APP]);
    assert_eq!(app.version.map(|version| version.to_string()), Some(without.version));
    let ids = |sandboxes: Vec<Sandbox>| -> Vec<_> { sandboxes.into_iter().map(|sandbox| sandbox.id).collect() };
    assert_eq!(ids(node.sandboxes(APP)), ids(before), "a sandbox was made");
    assert_eq!((disks(node), traces(node)), (Vec::new(), Vec::new()));
}

/// The one sandbox that runs, which has the disk to itself.
#[track_caller]
fn holds_the_disk(node: &Node) -> Sandbox {
    let running = node.wait_running(APP, 1).remove(0);
    let disk: Disk = node.cli.json(&["disk", "show", "data", "-a", APP]);
    assert_eq!((disk.state, disk.size_gb), (DiskState::Attached, Some(1)), "{disk:?}");
    assert_eq!(disk.leased_by, std::slice::from_ref(&running.id));
    running
}

/// The record of the disk, out of sight until it is put back: nobody can mount what nobody can read.
struct Hidden {
    record: PathBuf,
    elsewhere: PathBuf,
}

impl Hidden {
    fn record_of(node: &Node) -> Self {
        let record = node.folder().join("data/disks/ledger.data/disk.json");
        let elsewhere = node.folder().join("disk.json");
        fs::rename(&record, &elsewhere).expect("the disk has a record");
        Self { record, elsewhere }
    }

    fn back(self) {
        fs::rename(self.elsewhere, self.record).expect("it was there");
    }
}

/// B2, B3, B9: DEAD with the step in its reason, and twice the wait after the second time; the pool as it was then.
fn a_volume_that_cannot_be_prepared_is_a_crash(node: &Node) -> Pool {
    let victim = node.wait_running(APP, 1).remove(0);
    process::kill_and_wait(victim.pid.expect("a running sandbox has a process"));
    let mut waits = Vec::new();
    for (crashes, seconds) in [(1, 10), (2, 20)] {
        let pool = cooling(node, &victim, crashes);
        let until = pool.cooldown_until.expect("a cooldown has an end");
        let dead = ended_at_volume(node, &victim);
        assert_eq!(dead.len(), crashes as usize, "{dead:#?}");
        let last = dead.last().expect("there is one");
        // The pool hears of the end a moment after it.
        let wait = until.duration_since(last.ended_at.expect("it has ended")).as_secs();
        assert!(
            (seconds..seconds + 9).contains(&wait),
            "{wait} s after crash {crashes}: {pool:?}"
        );
        assert!(
            waits.iter().all(|before| last.created_at >= *before),
            "it did not wait: {dead:#?}"
        );
        waits.push(until);
        assert_eq!(pool.current, 0, "one that cannot boot counts: {pool:?}");
        let answer = node.get(HOST, "/info");
        assert_eq!((answer.status, answer.code()), (503, "cooldown"), "{answer:?}");
        let retry_after = answer.header("retry-after").and_then(|text| text.parse::<i64>().ok());
        assert!(
            retry_after.is_some_and(|after| (1..=seconds + 1).contains(&after)),
            "{answer:?}"
        );
    }
    let disk: Disk = node.cli.json(&["disk", "show", "data", "-a", APP]);
    assert_eq!(disk.state, DiskState::Damaged, "{disk:?}");
    assert!(disk.leased_by.is_empty(), "{disk:?}");
    // One that cannot be read is there: nobody is told to make it.
    let told = refused(&node.cli.deploy(ledger("").path()));
    assert!(told.contains("disk.json") && !told.contains("size_gb"), "{told}");
    cooling(node, &victim, 2)
}

/// The pool of a sandbox, once it waits after so many crashes.
#[track_caller]
fn cooling(node: &Node, of: &Sandbox, crashes: u32) -> Pool {
    wait_until(&format!("the wait after crash {crashes}"), PATIENCE, || {
        let pool: Pool = node.cli.json(&["pool", "show", of.pool.as_str()]);
        match pool.state == PoolState::Cooldown && pool.crash_count == crashes {
            true => Ok(pool),
            false => Err(format!("{pool:?}, {:?}", node.sandboxes(APP))),
        }
    })
}

/// The sandboxes of a pool that died of their disk, oldest first; all others have ended too.
#[track_caller]
fn ended_at_volume(node: &Node, of: &Sandbox) -> Vec<Sandbox> {
    let mut sandboxes = node.sandboxes(APP);
    assert!(sandboxes.iter().all(|one| one.state.is_terminal()), "{sandboxes:#?}");
    sandboxes.retain(|one| one.pool == of.pool && one.running_at.is_none());
    for one in &sandboxes {
        let reason = one.reason.as_deref().unwrap_or_default();
        assert_eq!(one.state, SandboxState::Dead, "{one:?}");
        assert!(
            reason.starts_with("volume: ") && reason.contains("disk.json"),
            "{one:?}"
        );
    }
    sandboxes.sort_by_key(|one| one.created_at);
    sandboxes
}
