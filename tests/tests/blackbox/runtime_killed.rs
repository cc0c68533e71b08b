//! What runs the sandboxes, killed under load: helper processes, shims, containerd itself. Each has a node of the runtime it
//! belongs to, whichever is under test.

use std::collections::BTreeSet;
use std::time::Duration;

use miren_api::resource::{PoolState, Sandbox, SandboxState};
use miren_bench::load::{Load, Options, Report};
use miren_blackbox::{AppFolder, Containerd, Mixed, Node, NodeOptions, NodeRuntime, fast_path, process, wait_until};
use nix::sys::signal::Signal;

const HOST: &str = "held.example.com";
const APP: &str = "held";
const SANDBOXES: usize = 2;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// A node of that runtime whose app has its sandboxes.
fn started(runtime: NodeRuntime) -> (Node, AppFolder) {
    let node = NodeOptions::unique().runtime(runtime).start();
    let app = AppFolder::rust(APP).fixed(SANDBOXES as u32).release("before");
    node.deploy_at(&app, HOST);
    node.wait_running(APP, SANDBOXES);
    (node, app)
}

/// The process that holds a sandbox: the parent of its init, whose child the app is. The name of its program is told, so that no
/// other is killed.
#[track_caller]
fn holder(sandbox: &Sandbox, program: &str) -> u32 {
    let init = process::parent(sandbox.pid.expect("a running sandbox has a process"));
    let holder = process::parent(init);
    let exe = std::fs::read_link(format!("/proc/{holder}/exe")).expect("it lives");
    let name = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
    assert!(name.starts_with(program), "{sandbox:?} is held by {name}");
    holder
}

/// What runs once others have taken the places of these.
#[track_caller]
fn replaced(node: &Node, gone: &BTreeSet<String>) -> Vec<Sandbox> {
    wait_until("others in the places of the killed", PATIENCE, || {
        let mut running = node.running(APP);
        running.retain(|sandbox| !gone.contains(sandbox.id.as_str()));
        match running.len() == SANDBOXES {
            true => Ok(running),
            false => Err(format!("{:?}", node.sandboxes(APP))),
        }
    })
}

/// One pool of the right size, of everything what its sandboxes need and no more, and a deploy that works as ever.
#[track_caller]
fn all_is_well(node: &Node, app: &AppFolder) {
    wait_until("the clean-up after the killed", PATIENCE, || {
        let counted = node.census("hello-rust");
        let right = counted["app processes"] == SANDBOXES && counted.values().all(|count| *count <= SANDBOXES);
        let pools = node.pools(APP);
        let settled = |state, current, ready| (state, current, ready) == (PoolState::Active, 2, 2);
        match &pools[..] {
            [pool] if right && settled(pool.state, pool.current, pool.ready) => Ok(()),
            _ => Err(format!("{pools:?} {counted:?}")),
        }
    });
    app.set_release("after");
    node.deploy(app);
    assert_eq!(node.get(HOST, "/info").field("release"), "after");
}

fn ended(node: &Node, id: &str) -> Sandbox {
    wait_until("the end of what was killed", PATIENCE, || {
        let found = node.sandboxes(APP).into_iter().find(|one| one.id.as_str() == id);
        match found {
            Some(one) if one.state.is_terminal() => Ok(one),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn i7_killed_helpers_fail_no_request_and_their_sandboxes_are_replaced() {
    let (node, app) = started(NodeRuntime::Embedded);
    let mixed = Mixed::start(&node, HOST);
    let mut gone = BTreeSet::new();
    for round in 0..ROUNDS {
        let victim = replaced(&node, &gone).remove(round % SANDBOXES);
        process::kill_and_wait(holder(&victim, "miren-control"));
        gone.insert(victim.id.to_string());
        let ended = ended(&node, victim.id.as_str());
        // What was in flight has ended in peace, and then it was told to.
        assert_eq!(ended.state, SandboxState::Stopped, "{ended:?}");
        assert!(
            ended.reason.as_ref().is_some_and(|reason| reason.contains("helper")),
            "{ended:?}"
        );
    }
    replaced(&node, &gone);
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    assert_eq!(node.pools(APP)[0].crash_count, 0);
    all_is_well(&node, &app);
    node.stop();
}

#[test]
fn i7_a_helper_killed_while_control_is_dead_is_missed_by_the_next_control() {
    let (node, app) = started(NodeRuntime::Embedded);
    let victim = node.wait_running(APP, SANDBOXES).remove(0);
    let control = node.control_pid().expect("control runs");
    let mixed = Mixed::start(&node, HOST);
    // Stopped, so that it does not start control again at once.
    process::signal(node.dev_pid(), Signal::SIGSTOP);
    process::kill_and_wait(control);
    process::kill_and_wait(holder(&victim, "miren-control"));
    for _ in 0..100 {
        assert_eq!(node.get(HOST, "/info").status, 200);
    }
    process::signal(node.dev_pid(), Signal::SIGCONT);
    wait_until("the next control", PATIENCE, || match node.control_pid() {
        Some(pid) if pid != control && node.cli.call(&["sandbox", "list"]).code == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    replaced(&node, &BTreeSet::from([victim.id.to_string()]));
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    all_is_well(&node, &app);
    node.stop();
}

fn load(node: &Node, method: &str, path: &str, rate: f64) -> Load {
    let mut options = Options::get(&format!("http://{}{path}", node.http), rate).expect("the address of a node is one");
    options.host = Some(HOST.to_owned());
    options.method = method.parse().expect("a method");
    if method == "POST" {
        options.body = "no second time".into();
    }
    Load::start(options).expect("a load starts")
}

/// What may be repeated never fails; what may not, only by its sandbox.
#[track_caller]
fn only_what_died_inside(gets: &Report, posts: &Report) {
    println!("GETs {gets}\nPOSTs {posts}");
    assert_eq!(gets.failed, 0, "{gets}");
    assert!(posts.requests > posts.failed, "{posts}");
    let inside = |code: &Option<String>| code.as_deref() == Some("upstream_closed");
    assert!(posts.failures.iter().all(|failure| inside(&failure.code)), "{posts}");
}

#[test]
fn i7_killed_shims_fail_nothing_but_what_was_under_way_in_their_sandboxes() {
    let containerd = Containerd::start();
    let (node, app) = started(NodeRuntime::Containerd(containerd.socket()));
    let (gets, posts) = (load(&node, "GET", "/info", 300.0), load(&node, "POST", "/echo", 50.0));
    let mut gone = BTreeSet::new();
    for round in 0..ROUNDS {
        let victim = replaced(&node, &gone).remove(round % SANDBOXES);
        process::kill_and_wait(holder(&victim, "containerd-shim"));
        gone.insert(victim.id.to_string());
        let ended = ended(&node, victim.id.as_str());
        let reason = ended.reason.as_deref().unwrap_or_default();
        // Its parent is gone, so only the kernel can say how it ended.
        let is_told = reason.contains("SIGKILL") || (fast_path() != "kernel" && reason.contains("unknown status"));
        assert!(ended.state == SandboxState::Dead && is_told, "{ended:?}");
    }
    replaced(&node, &gone);
    let stopped = (gets.stop().expect("a load ends"), posts.stop().expect("a load ends"));
    only_what_died_inside(&stopped.0, &stopped.1);
    assert_eq!(node.pools(APP)[0].crash_count, 0);
    all_is_well(&node, &app);
    node.stop();
}

#[test]
fn i7_containerd_killed_again_and_again_fails_no_request() {
    let mut containerd = Containerd::start();
    let (node, app) = started(NodeRuntime::Containerd(containerd.socket()));
    let ids = |sandboxes: Vec<Sandbox>| -> BTreeSet<_> { sandboxes.into_iter().map(|one| one.id).collect() };
    let before = ids(node.running(APP));
    let mixed = Mixed::start(&node, HOST);
    for _ in 0..3 {
        containerd.kill();
        for _ in 0..50 {
            assert_eq!(node.get(HOST, "/info").status, 200);
        }
        containerd.start_again();
    }
    assert_eq!(ids(node.running(APP)), before, "what runs does not depend on it");
    all_is_well(&node, &app);
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    node.stop();
}

#[test]
fn i7_b2_f9_a_sandbox_that_dies_while_containerd_is_down_is_replaced_when_it_is_back() {
    let mut containerd = Containerd::start();
    let (node, app) = started(NodeRuntime::Containerd(containerd.socket()));
    let victim = node.wait_running(APP, SANDBOXES).remove(0);
    let gets = load(&node, "GET", "/info", 300.0);
    containerd.kill();
    process::kill_and_wait(victim.pid.expect("a running sandbox has a process"));
    let pool = wait_until("the boot that fails", PATIENCE, || {
        let pool = node.pools(APP).remove(0);
        match pool.node_fault.is_some() {
            true => Ok(pool),
            false => Err(format!("{pool:?}")),
        }
    });
    let told = pool.node_fault.as_deref().unwrap_or_default();
    assert!(told.starts_with("runtime: create: containerd at "), "{pool:?}");
    assert_eq!((pool.crash_count, pool.state), (0, PoolState::Active), "{pool:?}");
    containerd.start_again();
    replaced(&node, &BTreeSet::from([victim.id.to_string()]));
    let report = gets.stop().expect("a load ends");
    println!("{report}");
    assert_eq!(report.failed, 0, "{report}");
    all_is_well(&node, &app);
    node.stop();
}
