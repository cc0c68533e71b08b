//! Disks from outside: what an app was told is kept is kept, a mistake is refused by name, a deleted app leaves none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use miren_api::resource::{Disk, DiskState};
use miren_blackbox::{AppFolder, Node, http, process, wait_until};

const HOST: &str = "ledger.example.com";
const PATIENCE: Duration = Duration::from_secs(30);

fn disk(more: &str) -> String {
    format!("[[services.web.disks]]\nname = \"data\"\nmount_path = \"/data\"\n{more}")
}

fn disks(node: &Node) -> Vec<Disk> {
    node.cli.json(&["disk", "list"])
}

/// Files below a folder that loop devices refer to.
fn devices_of(folder: &Path) -> Vec<String> {
    let blocks = fs::read_dir("/sys/block").expect("block devices").flatten();
    let files = blocks.map(|block| fs::read_to_string(block.path().join("loop/backing_file")).unwrap_or_default());
    files
        .filter(|file| Path::new(file.trim()).starts_with(folder))
        .collect()
}

/// Waits until nothing is left of the disks of a deleted app.
fn wait_for_no_disk(node: &Node) {
    wait_until("the app and its disks to be gone", PATIENCE, || {
        let apps = node.cli.call_json(&["app", "list"]).stdout;
        let (disks, devices) = (disks(node), devices_of(node.folder()));
        match apps.trim() == "[]" && disks.is_empty() && devices.is_empty() {
            true => Ok(()),
            false => Err(format!("{apps} {disks:?} {devices:?}")),
        }
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let of_disks = mounts
        .lines()
        .filter(|line| line.contains(&*node.folder().to_string_lossy()) && line.contains("/disks/"));
    assert_eq!(of_disks.collect::<Vec<_>>(), Vec::<&str>::new());
}

fn delete(node: &Node, app: &AppFolder) {
    let output = node.cli.call(&["app", "delete", &app.name, "-f"]);
    assert_eq!(output.code, 0, "{output}");
}

#[test]
fn b1_b5_a_disk_that_cannot_be_is_refused_by_name_and_the_corrected_deploy_serves() {
    let node = Node::start();
    let typo = AppFolder::ledger("ledger").and(&disk("size = 20"));
    let output = node.cli.deploy(typo.path());
    assert_ne!(output.code, 0, "{output}");
    assert!(
        output
            .text()
            .contains("unknown key \\\"size\\\"; did you mean \\\"size_gb\\\"?"),
        "{output}"
    );
    let missing = AppFolder::ledger("ledger").and(&disk(""));
    let output = node.cli.deploy(missing.path());
    assert_ne!(output.code, 0, "{output}");
    let told = "disk \\\"data\\\" does not exist; set size_gb to create it";
    assert!(output.text().contains(told), "{output}");
    assert_eq!(node.cli.call_json(&["app", "list"]).stdout.trim(), "[]");
    assert!(disks(&node).is_empty() && node.sandboxes("ledger").is_empty());

    let fixed = AppFolder::ledger("ledger").and(&disk("size_gb = 1"));
    node.deploy_at(&fixed, HOST);
    let running = node.wait_running("ledger", 1);
    let found = disks(&node);
    assert_eq!(
        (found.len(), found[0].state, found[0].size_gb),
        (1, DiskState::Attached, Some(1))
    );
    assert_eq!(found[0].leased_by, [running[0].id.clone()]);
    operate(&node);

    delete(&node, &fixed);
    wait_for_no_disk(&node);
    node.stop();
}

/// What an operator does with a disk in use.
fn operate(node: &Node) {
    let call = |words: &[&str]| node.cli.call(&[words, &["-a", "ledger"]].concat());
    let refused = call(&["disk", "delete", "data", "-f"]);
    assert_eq!(refused.code, 4, "{refused}");
    assert!(refused.text().contains("disk \"data\" is attached"), "{refused}");
    let unknown = call(&["disk", "show", "none"]);
    assert_eq!(unknown.code, 3, "{unknown}");
    for words in [
        &["disk", "snapshot", "data", "copy"][..],
        // One in use grows too, but only where the machine grants CAP_SYS_RESOURCE.
        &["disk", "grow", "copy", "--size-gb", "2"],
    ] {
        let output = call(words);
        assert_eq!(output.code, 0, "{output}");
    }
    let shown: Disk = node.cli.json(&["disk", "show", "copy", "-a", "ledger"]);
    assert_eq!((shown.size_gb, shown.state), (Some(2), DiskState::Detached));
    let table = node.cli.call(&["disk", "list"]).stdout;
    assert!(
        table.starts_with("NAME") && table.contains("2GiB") && table.contains("attached"),
        "{table}"
    );
    for (name, size, told) in [
        ("copy", 1, "disk \\\"copy\\\" has 2GiB, and no disk shrinks to 1GiB"),
        ("data", 3, "grow it first: miren disk grow data --size-gb 3 -a ledger"),
    ] {
        let text = disk(&format!("size_gb = {size}")).replace("\"data\"", &format!("{name:?}"));
        let other = AppFolder::ledger("ledger").release("other").and(&text);
        let output = node.cli.deploy(other.path());
        assert_ne!(output.code, 0, "{output}");
        assert!(output.text().contains(told), "{output}");
    }
}

/// Asks an app to keep one number after the other, until told to end.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

#[derive(Default)]
struct Written {
    acknowledged: BTreeSet<u64>,
    failures: Vec<String>,
}

impl Writer {
    fn start(node: &Node, first: u64) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), node.http);
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut written = Written::default();
            for number in first.. {
                if told.load(Ordering::SeqCst) {
                    break;
                }
                match http::get(address, HOST, &format!("/append?n={number}")) {
                    Ok(answer) if answer.status == 200 => drop(written.acknowledged.insert(number)),
                    Ok(answer) => written.failures.push(format!("{} {}", answer.status, answer.code())),
                    Err(error) => written.failures.push(error.to_string()),
                }
            }
            written
        });
        Self { stop, thread }
    }

    fn stop(self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the writer ends")
    }
}

/// All that is acknowledged is there.
fn nothing_is_lost(node: &Node, acknowledged: &BTreeSet<u64>) {
    let answer = node.get(HOST, "/numbers");
    let kept: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let kept: BTreeSet<u64> = kept["numbers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|n| n.as_u64())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    assert!(!acknowledged.is_empty());
}

#[test]
fn b6_nothing_acknowledged_is_lost_to_deploys_crashes_and_a_dead_control() {
    let node = Node::start();
    let app = AppFolder::ledger("ledger").and(&disk("size_gb = 1"));
    node.deploy_at(&app, HOST);
    let mut acknowledged = BTreeSet::new();

    // Deploys: requests wait, none fails.
    let writer = Writer::start(&node, 0);
    for release in ["two", "three"] {
        app.set_release(release);
        node.deploy(&app);
        assert_eq!(node.get(HOST, "/info").field("release"), release);
    }
    let written = writer.stop();
    assert_eq!(written.failures, Vec::<String>::new());
    acknowledged.extend(written.acknowledged);

    // A version that fails brings the one before it back.
    let writer = Writer::start(&node, 1_000_000);
    let broken = AppFolder::ledger("ledger")
        .and(&disk("size_gb = 1"))
        .env("EXIT_AT_START", "1");
    let output = node.cli.deploy(broken.path());
    assert_ne!(output.code, 0, "{output}");
    wait_until("the earlier version to serve again", PATIENCE, || {
        match node.get(HOST, "/info") {
            answer if answer.field("release") == "three" => Ok(()),
            answer => Err(answer.text()),
        }
    });
    let written = writer.stop();
    assert_eq!(written.failures, Vec::<String>::new());
    acknowledged.extend(written.acknowledged);

    // Deaths: what is in flight may fail, what was answered stays.
    let writer = Writer::start(&node, 2_000_000);
    for _ in 0..3 {
        let victim = node.wait_running("ledger", 1).remove(0);
        process::kill_and_wait(victim.pid.expect("a running sandbox has a process"));
        wait_until("another sandbox", PATIENCE, || match node.running("ledger") {
            running if running.len() == 1 && running[0].id != victim.id => Ok(()),
            running => Err(format!("{running:?}")),
        });
    }
    let control = node.control_pid().expect("control runs");
    process::kill_and_wait(control);
    wait_until("the next control", PATIENCE, || match node.control_pid() {
        Some(pid) if pid != control && node.cli.call(&["disk", "list"]).code == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let holder = node.wait_running("ledger", 1).remove(0);
    wait_until("the disk to be known as leased", PATIENCE, || match disks(&node) {
        disks if disks[0].leased_by == [holder.id.clone()] => Ok(()),
        disks => Err(format!("{disks:?}")),
    });
    app.set_release("four");
    node.deploy(&app);
    acknowledged.extend(writer.stop().acknowledged);
    nothing_is_lost(&node, &acknowledged);

    delete(&node, &app);
    wait_for_no_disk(&node);
    node.stop();
}
