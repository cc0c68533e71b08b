//! Decides that a sandbox finds its own limits where programs look for them, and nothing that it could change or that is another's.

use crate::archive::Archive;
use crate::client::ask;
use crate::node::{TestNode, with_node};
use miren_api::resource::SandboxState::Stopped;
use miren_api::settings::Bytes;
use miren_sandbox::{Attach, SandboxChange, StartOrder};
use tokio::io::AsyncReadExt;

const MEMORY: u64 = 48 << 20;

/// Where a limit is: in version 1 of control groups, and in version 2.
const LIMITS: [(&str, &str, &str, &str); 3] = [
    ("memory/memory.limit_in_bytes", "50331648", "memory.max", "50331648"),
    ("cpu/cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"),
    ("pids/pids.max", "77", "pids.max", "77"),
];

fn is_version_2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn limited(mut order: StartOrder) -> StartOrder {
    order.service.resources.memory = Some(Bytes(MEMORY));
    order.service.resources.cpu = Some(0.25);
    order.service.resources.pids = Some(77);
    order
}

/// Each limit in turn: its file inside, and what is to be in it.
fn files() -> impl Iterator<Item = (String, &'static str)> {
    LIMITS.into_iter().map(|(v1, in_v1, v2, in_v2)| {
        let (file, text) = if is_version_2() { (v2, in_v2) } else { (v1, in_v1) };
        (format!("sys/fs/cgroup/{file}"), text)
    })
}

fn sees_its_limits(running: &SandboxChange) {
    for (file, expected) in files() {
        assert_eq!(ask(running, &format!("read/{file}")).trim(), expected, "/{file}");
    }
    assert_eq!(ask(running, "list/sys"), "fs");
    assert_eq!(ask(running, "list/sys/fs"), "cgroup");
    let groups = ask(running, "read/proc/self/cgroup");
    let mounts = ask(running, "read/proc/self/mountinfo");
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        let fields: Vec<&str> = line.split(' ').collect();
        assert_eq!(fields[3], "/", "the root of what is mounted: {line}");
        assert!(fields[5].starts_with("ro,"), "{line}");
    }
    assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
}

/// Nothing is written there, nor made, nor can root of the sandbox change what is mounted.
async fn changes_nothing(node: &TestNode, order: &StartOrder, running: &SandboxChange) {
    for (file, _) in files() {
        let answer = ask(running, &format!("write/{file}"));
        assert!(answer.contains("Read-only file system"), "/{file}: {answer}");
    }
    for place in ["sys/new", "sys/fs/new", "sys/fs/cgroup/new"] {
        let answer = ask(running, &format!("write/{place}"));
        let refused = ["Read-only file system", "Permission denied"];
        assert!(refused.iter().any(|why| answer.contains(why)), "/{place}: {answer}");
    }
    let (folder, _) = files().next().expect("a limit");
    let folder = folder.rsplit_once('/').expect("a folder").0;
    let script = format!(
        "mkdir /{folder}/sub; echo $$ > /{folder}/cgroup.procs; umount /{folder}; mount -o remount,rw,bind /{folder}; \
         mount -t cgroup2 none /tmp; mount -t cgroup -o memory none /tmp; ls -d /{folder}/sub"
    );
    let said = run(node, order, &script).await;
    assert!(!said.contains("/sub\n"), "{said}");
    assert!(said.matches("Read-only file system").count() >= 2, "{said}");
    assert_eq!(
        said.matches("must be superuser").count() + said.matches("ermi").count(),
        4,
        "{said}"
    );
}

/// What a further command says, on both outputs.
async fn run(node: &TestNode, order: &StartOrder, script: &str) -> String {
    let command = ["sh", "-c", &format!("{{ {script}; }} 2>&1")].map(str::to_owned);
    let exec = node
        .sandboxes()
        .exec(&order.id, command.to_vec(), Attach::default())
        .await;
    let mut exec = exec.expect("a command");
    let mut said = String::new();
    exec.streams.stdout.read_to_string(&mut said).await.expect("its output");
    said
}

async fn stop(node: &mut TestNode, order: &StartOrder) {
    node.sandboxes().kill(&order.id, "test over");
    node.until(&order.id, Stopped).await;
}

#[test]
fn g3_a_sandbox_sees_its_own_limits_and_changes_nothing_of_them() {
    with_node(async |node| {
        let order = limited(node.order("listen 0.0.0.0"));
        let running = node.run(&order).await;
        sees_its_limits(&running);
        changes_nothing(node, &order, &running).await;
        let mut open = node.order("listen 0.0.0.0");
        open.service.resources.memory = None;
        let other = node.run(&open).await;
        let (memory, _) = files().next().expect("a limit");
        assert_ne!(
            ask(&other, &format!("read/{memory}")).trim(),
            "50331648",
            "it is another's"
        );
        let cpu = files().nth(1).expect("a limit").0;
        let unlimited = ask(&other, &format!("read/{cpu}"));
        assert!(["-1", "max 100000"].contains(&unlimited.trim()), "{unlimited}");
        stop(node, &open).await;
        stop(node, &order).await;
    });
}

#[test]
fn g3_a_further_command_sees_the_limits_of_its_sandbox() {
    with_node(async |node| {
        let order = limited(node.order("listen 0.0.0.0"));
        node.run(&order).await;
        for (file, expected) in files() {
            assert_eq!(run(node, &order, &format!("cat /{file}")).await.trim(), expected);
        }
        let groups = run(node, &order, "cat /proc/self/cgroup").await;
        assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
        stop(node, &order).await;
    });
}

/// What a program of the host's makes of it by itself.
#[test]
fn g3_node_sizes_itself_by_the_limit() {
    with_node(async |node| {
        let mut order = limited(node.order("listen 0.0.0.0"));
        order.service.resources.memory = Some(Bytes(1 << 30));
        node.run(&order).await;
        let asked = "node -e 'console.log(process.constrainedMemory(), v8.getHeapStatistics().heap_size_limit)'";
        let said = run(node, &order, asked).await;
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [limit, heap] = numbers[..] else { panic!("{said}") };
        assert_eq!(limit, 1 << 30);
        assert!(heap <= 1 << 30, "{said}");
        eprintln!("JAVA {said}");
        stop(node, &order).await;
    });
}

#[test]
fn g3_a_sandbox_of_an_image_sees_its_limits_also_read_only_and_after_it_was_adopted() {
    with_node(async |node| {
        let (_, image) = Archive::new().order(node).await;
        for read_only_root in [false, true] {
            let mut order = limited(image.clone());
            order.id = miren_api::id::SandboxId::generate();
            order.service.read_only_root = read_only_root;
            let running = node.run(&order).await;
            sees_its_limits(&running);
            let known = node.known(&order);
            node.kill_daemon().await;
            assert_eq!(node.restart_daemon(vec![known]).await, []);
            sees_its_limits(&running);
            node.sandboxes().kill(&order.id, "test over");
            node.until(&order.id, Stopped).await;
        }
    });
}
