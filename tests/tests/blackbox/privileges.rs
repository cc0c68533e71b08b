//! Too few privileges are named in one line, or made do without; the proxy keeps none.

use std::ffi::CStr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;

use miren_api::resource::FastPathStatus;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use miren_blackbox::{AppFolder, Binaries, Node, NodeOptions, Output, process};

/// User and group `nobody` on Debian.
const NOBODY: u32 = 65534;

#[test]
fn without_root_one_line_says_what_is_missing() {
    let options = NodeOptions::unique();
    chown(options.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = options.command(&Binaries::find());
    command.uid(NOBODY).gid(NOBODY);
    let output = Output::of(&mut command);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.text().contains("root"), "{output}");
    // With --format json the error is one document on stdout.
    assert_eq!(output.text().trim().lines().count(), 1, "{output}");
    assert_eq!(options.leftovers(), [].into());
}

#[test]
fn without_cgroups_one_line_says_what_to_mount() {
    let options = NodeOptions::unique();
    let mut command = options.command(&Binaries::find());
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(|| Ok(hide_cgroups()?)) };
    let output = Output::of(&mut command);
    assert_eq!(output.code, 1, "{output}");
    // With the kernel's fast path the connect hook misses it first, else the limits of sandboxes do.
    assert!(
        output.text().contains("no cgroup") && output.text().contains("is mounted"),
        "{output}"
    );
    assert_eq!(output.text().trim().lines().count(), 1, "{output}");
    assert_eq!(options.leftovers(), [].into(), "{output}");
}

/// As on a machine without cgroups, for this process and those it starts.
fn hide_cgroups() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&CStr>;
    mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    umount2(c"/sys/fs/cgroup", MntFlags::MNT_DETACH)
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
    assert!(maps.is_empty(), "{open:?}");
    node.stop();
}
