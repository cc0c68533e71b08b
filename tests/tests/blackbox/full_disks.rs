//! Each folder of a node on a disk that fills: nothing dies of it, and with room again it recovers by itself.

use std::time::Duration;

use miren_blackbox::{AppFolder, ContainerImage, Node, NodeOptions, Registry, SmallDisk, process, wait_until};

const HOST: &str = "full.example.com";
const APP: &str = "full";
/// The longest wait after the crashes that a full disk may have been taken for, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A node that has these of its files and folders on a small disk, and an app that serves.
#[track_caller]
fn started(disk: &SmallDisk, places: &[&str]) -> (Node, AppFolder) {
    let options = places.iter().fold(NodeOptions::unique(), |options, place| {
        options.place(place, &disk.path().join(place))
    });
    let node = options.start();
    let app = AppFolder::rust(APP).fixed(1).release("before");
    node.deploy_at(&app, HOST);
    (node, app)
}

#[track_caller]
fn kill_the_sandbox(node: &Node) {
    let victim = node.wait_running(APP, 1).remove(0);
    process::kill_and_wait(victim.pid.expect("a running sandbox has a process"));
}

#[track_caller]
fn served_again(node: &Node) {
    wait_until("the app to be served", PATIENCE, || match node.get(HOST, "/info") {
        response if response.status == 200 => Ok(()),
        response => Err(format!("{} {}", response.status, response.text())),
    });
}

#[track_caller]
fn deploys_again(node: &Node, app: &AppFolder) {
    app.set_release("after");
    wait_until("a deploy to work as ever", PATIENCE, || {
        match node.cli.deploy(app.path()) {
            output if output.code == 0 => Ok(()),
            output => Err(output.to_string()),
        }
    });
    wait_until("the new release", PATIENCE, || match node.get(HOST, "/info") {
        response if response.status == 200 && response.field("release") == "after" => Ok(()),
        response => Err(format!("{} {}", response.status, response.text())),
    });
}

#[track_caller]
fn nothing_panicked(node: &Node) {
    let log = node.log();
    let panicked: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panicked.is_empty(), "{panicked:#?}");
}

/// Fills it, lets a sandbox die and a deploy be tried, makes room.
#[track_caller]
fn recovers(places: &[&str]) {
    let disk = SmallDisk::mount("64m");
    let (node, app) = started(&disk, places);
    disk.fill();
    kill_the_sandbox(&node);
    app.set_release("meanwhile");
    // It may fail, and say so; it may not hang.
    let _ = node.cli.deploy(app.path());
    disk.make_room();
    served_again(&node);
    deploys_again(&node, &app);
    nothing_panicked(&node);
    node.stop();
}

#[test]
fn f4b_controls_data_on_a_full_disk() {
    recovers(&["data"]);
}

#[test]
fn f4b_run_files_on_a_full_disk() {
    recovers(&["run"]);
}

#[test]
fn f4b_what_the_proxy_keeps_on_a_full_disk() {
    recovers(&["proxy"]);
}

#[test]
fn f4b_everything_on_one_full_disk() {
    recovers(&["data", "run", "proxy", "control.log", "proxy.log"]);
}

#[test]
fn f9_an_image_that_finds_the_disk_full_is_got_once_there_is_room() {
    let (disk, registry) = (SmallDisk::mount("256m"), Registry::start());
    let options = NodeOptions::unique().registry(&registry);
    let node = options.place("data", &disk.path().join("data")).start();
    // More than the reserve that control gives up.
    let image = registry.push("shop:1", &ContainerImage::rust("one").heavier(40 << 20));
    disk.fill();
    std::thread::scope(|scope| {
        let deploying = scope.spawn(|| node.cli.call_json(&["deploy", "-a", "shop", "--image", &image]));
        wait_until("somebody to wait for room", PATIENCE, || {
            let metrics = node.control_metrics();
            let mut lines = metrics.lines().filter(|line| line.contains("miren_node_faults{"));
            match lines.any(|line| line.contains("disk_full") && !line.ends_with(" 0")) {
                true => Ok(()),
                false if deploying.is_finished() => panic!("the deploy has ended"),
                false => Err(metrics
                    .lines()
                    .filter(|line| line.contains("node_faults"))
                    .collect::<String>()),
            }
        });
        disk.make_room();
        let deployed = deploying.join().expect("a deploy");
        assert_eq!(deployed.code, 0, "{deployed}");
        assert!(deployed.stderr.contains("trying again"), "it is told: {deployed}");
    });
    nothing_panicked(&node);
    node.stop();
}

#[test]
fn f4b_logs_on_a_full_disk_stop_no_work() {
    let disk = SmallDisk::mount("8m");
    let (node, app) = started(&disk, &["control.log", "proxy.log"]);
    let pids = (node.control_pid(), node.proxy_pid());
    disk.fill();
    kill_the_sandbox(&node);
    served_again(&node);
    deploys_again(&node, &app);
    let metrics = node.control_metrics();
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("miren_log_lines_dropped_total "));
    assert!(dropped.is_some_and(|count| count != "0"), "{metrics}");
    disk.make_room();
    kill_the_sandbox(&node);
    wait_until("what was lost to be said", PATIENCE, || match node.log() {
        log if log.contains("log lines could not be written") => Ok(()),
        log => Err(log),
    });
    served_again(&node);
    assert_eq!((node.control_pid(), node.proxy_pid()), pids, "somebody died");
    nothing_panicked(&node);
    node.stop();
}

#[test]
fn f4b_a_node_whose_log_is_full_stops_when_it_is_told() {
    let disk = SmallDisk::mount("8m");
    let (node, _app) = started(&disk, &["control.log", "proxy.log"]);
    disk.fill();
    kill_the_sandbox(&node);
    node.stop();
}
