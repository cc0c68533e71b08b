//! Too few privileges are named in one line, or made do without; the proxy keeps none.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use miren_api::resource::FastPathStatus;
use miren_blackbox::{AppFolder, Binaries, Node, NodeOptions, Output, process};

/// User and group `nobody` on Debian.
const NOBODY: u32 = 65534;

#[test]
fn without_root_one_line_says_what_is_missing() {
    let options = NodeOptions::unique();
    chown(options.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = options.command(&Binaries::find());
    command.uid(NOBODY).gid(NOBODY);
    let start = Instant::now();
    let output = Output::of(&mut command);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(output.code, 1, "{output}");
    assert!(output.text().contains("root"), "{output}");
    // With --format json the error is one document on stdout.
    assert_eq!(output.text().trim().lines().count(), 1, "{output}");
    assert_eq!(options.leftovers(), [].into());
}

#[test]
fn k7_where_bpf_is_forbidden_auto_falls_back_to_off_and_says_why() {
    let node = NodeOptions::unique().fast_path("auto").without_bpf().start();
    assert_eq!(node.fast_path, "off");
    let status: FastPathStatus = node.cli.json(&["fastpath", "status"]);
    assert_eq!(status.mode, "off");
    let reason = status.reason.expect("a fall-back has a reason");
    assert!(
        !reason.is_empty() && node.log().contains(&reason),
        "{reason:?} is not in the log:\n{}",
        node.log()
    );
    node.deploy_at(&AppFolder::rust("plain").fixed(1), "plain.example.com");
    node.stop();
}

#[test]
fn k7_where_bpf_is_forbidden_kernel_refuses_to_start_and_leaves_nothing() {
    let options = NodeOptions::unique().fast_path("kernel").without_bpf();
    let output = Output::of(&mut options.command(&Binaries::find()));
    assert_eq!(output.code, 1, "{output}");
    assert!(output.text().to_lowercase().contains("bpf"), "{output}");
    assert_eq!(options.leftovers(), [].into(), "{output}");
}

#[test]
fn k7_the_status_says_which_mode_and_which_programs() {
    let node = Node::start();
    let status: FastPathStatus = node.cli.json(&["fastpath", "status"]);
    assert_eq!(status.mode, node.fast_path);
    assert_eq!(status.programs.is_empty(), status.mode == "off", "{status:?}");
    assert!(status.slots.capacity > 0);
    node.stop();
}

#[test]
fn k8_the_proxy_holds_no_privilege_and_no_bpf_descriptor() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("plain").fixed(1), "plain.example.com");
    let proxy = node.proxy_pid();
    assert_eq!(process::capabilities(proxy), 0);
    assert_ne!(process::user(proxy), 0);
    let open = process::open_files(proxy);
    let maps: Vec<_> = open
        .iter()
        .filter(|file| file.contains("bpf-map") || file.contains("bpf-prog"))
        .collect();
    // The hint ring has to stay open to be read; it is a map, but a read-only one without the right to anything else.
    assert!(maps.len() <= 1, "{open:?}");
    node.stop();
}
