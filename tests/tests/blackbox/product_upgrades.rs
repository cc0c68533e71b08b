//! The whole product is replaced while everybody uses it: nobody notices. A build that fails, and an upgrade that is killed, leave what
//! there was, or what there was to be.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use miren_api::resource::Sandbox;
use miren_blackbox::http::{Connection, WebSocket};
use miren_blackbox::{AppFolder, Build, Mixed, Node, NodeOptions, Output, SecondProxy, process, wait_until};
use serde_json::Value;

mod failing;

const HOST: &str = "product.example.com";
const APP: &str = "product";
const UPGRADES: usize = 5;
/// A request that is under way through an upgrade, milliseconds.
const LONG: u32 = 5000;
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(180);

/// A node with programs of its own, what it serves, and everybody who uses it.
struct Product {
    node: Node,
    programs: PathBuf,
    mixed: Mixed,
    sandboxes: Vec<(String, Option<u32>)>,
}

impl Product {
    fn start() -> Self {
        let options = NodeOptions::unique().own_programs();
        let programs = options.binaries().path("");
        let node = options.start();
        node.deploy_at(&AppFolder::rust(APP).fixed(2), HOST);
        let sandboxes = ids(&node.wait_running(APP, 2));
        let mixed = Mixed::start(&node, HOST);
        Self {
            node,
            programs,
            mixed,
            sandboxes,
        }
    }

    fn upgrade(&self, build: &Build, arguments: &[&str]) -> Output {
        let folder = build.programs();
        let folder = folder.to_str().expect("a path in UTF-8");
        let all = [&["upgrade", "--from", folder], arguments].concat();
        self.node.cli.call_json(&all)
    }

    /// Which files the daemons run, by what they are.
    fn running(&self) -> [(u64, u64); 2] {
        let control = self.node.control_pid().expect("control runs");
        [control, self.proxy_pid()].map(|pid| file(&PathBuf::from(format!("/proc/{pid}/exe"))))
    }

    /// The proxy that would be asked to make way. Those before it may still finish something.
    fn proxy_pid(&self) -> u32 {
        process::listener(&self.node.folder().join("proxy/upgrade.sock"))
    }

    fn in_place(&self) -> [(u64, u64); 2] {
        ["miren-control", "miren-proxy"].map(|name| file(&self.programs.join(name)))
    }

    /// Nothing of an upgrade is left, and what serves is what is in place.
    #[track_caller]
    fn is_whole(&self, what: &str) {
        assert_eq!(self.running(), self.in_place(), "{what}");
        let entries = [self.node.folder().join("data"), self.programs.clone()].map(|folder| {
            let entries = fs::read_dir(&folder).expect("reading a folder");
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        });
        let left = |name: &String| name.starts_with("upgrade") || name.ends_with(".next") || name.ends_with(".part");
        let left: Vec<String> = entries.into_iter().flatten().filter(left).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        assert_eq!(ids(&self.node.wait_running(APP, 2)), self.sandboxes, "{what}");
    }

    /// Nothing failed meanwhile.
    #[track_caller]
    fn stop(self) {
        let report = self.mixed.stop();
        println!("{report}");
        report.assert_none_failed();
        self.node.stop();
    }
}

fn ids(sandboxes: &[Sandbox]) -> Vec<(String, Option<u32>)> {
    let mut ids: Vec<_> = sandboxes.iter().map(|one| (one.id.to_string(), one.pid)).collect();
    ids.sort();
    ids
}

fn file(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let facts = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (facts.dev(), facts.ino())
}

#[test]
fn i9_five_upgrades_of_the_product_in_a_row_lose_nothing_of_a_mixed_load() {
    let product = Product::start();
    let http = product.node.http;
    let mut socket = WebSocket::open(http, HOST, "/ws").expect("a WebSocket opens");
    let long = move || {
        let mut connection = Connection::open(http)?;
        connection.request("GET", HOST, &format!("/sleep?ms={LONG}"), "")?;
        connection.response()
    };
    let mut slow = Vec::new();
    for upgrade in 0..UPGRADES {
        let before = product.running();
        slow.push(thread::spawn(long));
        let build = Build::marked(&format!("build {upgrade}"));
        let output = product.upgrade(&build, &[]);
        assert_eq!(output.code, 0, "{output}");
        let told: Value = output.parsed();
        assert_eq!(told["rolled_back"], false, "{output}");
        let steps = told["steps"].as_array().expect("steps").iter();
        let steps: Vec<&str> = steps.filter_map(|step| step["name"].as_str()).collect();
        assert_eq!(steps, ["check", "stage", "control", "proxy", "command"], "{output}");
        let now = product.running();
        assert!(before[0] != now[0] && before[1] != now[1], "{output}");
        product.is_whole(&format!("upgrade {upgrade}"));
        let again = product.upgrade(&build, &[]);
        assert!(
            again.code == 0 && again.parsed::<Value>()["steps"] == Value::Array(vec![]),
            "{again}"
        );
        assert_eq!(product.running(), now, "nothing was to be done");
        if upgrade == 0 {
            let forced = product.upgrade(&build, &["--force"]);
            assert_eq!(forced.code, 0, "{forced}");
            assert!(
                product.running()[0] != now[0] && product.running()[1] != now[1],
                "{forced}"
            );
        }
        let text = format!("after upgrade {upgrade}");
        assert_eq!(socket.echo(&text).expect("the WebSocket lives on"), text);
    }
    for request in slow {
        let answer = request.join().expect("a client ends").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let log = product.node.log();
    assert!(
        !log.contains("does not serve"),
        "looking at who serves is no upgrade: {log}"
    );
    // What is deployed now is made by the new control, and told to the new proxy.
    let app = AppFolder::rust("later").fixed(1);
    product.node.deploy_at(&app, "later.example.com");
    socket.close().expect("it ends in peace");
    product.stop();
}

/// Kills an upgrade with `kill -9` as soon as it says that it is at a step.
#[track_caller]
fn killed_at(product: &Product, build: &Build, step: &str) {
    let folder = build.programs();
    let folder = folder.to_str().expect("a path in UTF-8");
    let mut command = product.node.cli.command(&["upgrade", "--from", folder]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("starting an upgrade");
    let told = BufReader::new(child.stderr.take().expect("its stderr is piped"));
    let mut seen = Vec::new();
    for line in told.lines().map_while(Result::ok) {
        let is_there = line.split_whitespace().next() == Some(step);
        seen.push(line);
        if is_there {
            break;
        }
    }
    child.kill().expect("killing an upgrade");
    child.wait().expect("a killed process is reaped");
    assert!(
        seen.iter().any(|line| line.trim_start().starts_with(step)),
        "{step}: {seen:?}"
    );
    wait_until("control to be ready", LIMIT, || {
        match product.node.cli.call(&["app", "list"]) {
            output if output.code == 0 => Ok(()),
            output => Err(output),
        }
    });
}

#[test]
fn i7_an_upgrade_killed_at_any_step_goes_on_or_back_when_it_is_asked_for_again() {
    let product = Product::start();
    for step in ["check", "stage", "control", "proxy", "command"] {
        let build = Build::marked(&format!("on from {step}"));
        let before = product.running();
        killed_at(&product, &build, step);
        let output = product.upgrade(&build, &[]);
        assert_eq!(output.code, 0, "{step}: {output}");
        if step != "check" && step != "command" {
            assert!(
                output.stderr.contains(&format!("interrupted at step {step:?}")),
                "{output}"
            );
        }
        let now = product.running();
        assert!(before[0] != now[0] && before[1] != now[1], "{step}: {output}");
        product.is_whole(step);
    }
    for step in ["stage", "control", "proxy"] {
        let build = Build::marked(&format!("back from {step}"));
        let before = product.running();
        killed_at(&product, &build, step);
        let other = product.upgrade(&Build::marked("another"), &[]);
        assert!(other.code == 1 && other.text().contains("--back"), "{step}: {other}");
        let output = product.node.cli.call_json(&["upgrade", "--back"]);
        assert!(
            output.code == 1 && output.text().contains("as before"),
            "{step}: {output}"
        );
        assert_eq!(output.parsed::<Value>()["rolled_back"], true, "{step}: {output}");
        assert_eq!(product.running(), before, "{step}: {output}");
        product.is_whole(step);
    }
    // Killed once more, on the way back from one that failed.
    let dies = Build::marked("dies").serves_instead("miren-proxy", "echo 'no, not today' >&2\nexit 1");
    let before = product.running();
    killed_at(&product, &dies, "back");
    let output = product.upgrade(&dies, &[]);
    let text = output.text();
    let is_told = text.contains("it goes back") && text.contains("no, not today") && text.contains("as before");
    // Where the kill came too late, it was back already, and has failed once more.
    assert!(output.code == 1 && (is_told || text.contains("not today")), "{output}");
    assert_eq!(product.running(), before, "{output}");
    product.is_whole("back");
    let nothing = product.node.cli.call(&["upgrade", "--back"]);
    assert!(nothing.code == 3, "{nothing}");
    product.stop();
}

#[test]
fn of_two_upgrades_at_once_one_is_told_and_programs_put_in_place_by_hand_serve_too() {
    let product = Product::start();
    let build = Build::marked("by hand");
    // What a package does.
    for name in ["miren", "miren-control", "miren-proxy"] {
        let (new, place) = (build.path(name), product.programs.join(name));
        let beside = place.with_extension("package");
        fs::copy(new, &beside).expect("copying a program");
        fs::rename(beside, place).expect("putting it in place");
    }
    let before = product.node.control_pid();
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let cli = product.node.cli.clone();
            thread::spawn(move || cli.call_json(&["upgrade"]))
        })
        .collect();
    let outputs: Vec<Output> = calls
        .into_iter()
        .map(|call| call.join().expect("a call ends"))
        .collect();
    let done = outputs.iter().filter(|output| output.code == 0).count();
    let told =
        |output: &&Output| output.code == 1 && output.text().contains("another upgrade of this node is under way");
    // Whoever came after the end had it done once more.
    assert!(
        done == 2 || (done == 1 && outputs.iter().any(|output| told(&output))),
        "{outputs:?}"
    );
    product.is_whole("by hand");
    assert_ne!(product.node.control_pid(), before);
    product.stop();
}

#[test]
fn a_proxy_that_nobody_keeps_is_replaced_with_the_others_and_its_settings_may_be_elsewhere() {
    let options = NodeOptions::unique().own_programs();
    let programs = options.binaries();
    let node = options.start();
    node.deploy_at(&AppFolder::rust(APP).fixed(2), HOST);
    node.wait_running(APP, 2);
    let mut proxy = SecondProxy::start_of(&node, programs.clone(), &[]);
    let mixed = Mixed::start_at(proxy.http, HOST);
    let mut socket = WebSocket::open(proxy.http, HOST, "/ws").expect("a WebSocket opens");
    let settings = proxy.settings();
    let build = Build::marked("by hand");
    let folder = build.programs();
    let [settings, folder] = [&settings, &folder].map(|path| path.to_str().expect("a path in UTF-8"));
    let upgrade = ["upgrade", "--from", folder, "--proxy-config", settings];
    let refused = node.cli.call_json(&[&upgrade[..], &["--restart-proxy"]].concat());
    let is_told = refused.text().contains("nobody is known to start miren-proxy");
    assert!(refused.code == 1 && is_told, "{refused}");
    assert_eq!(socket.echo("hello").expect("nothing was touched"), "hello");
    let output = node.cli.call_json(&upgrade);
    assert_eq!(output.code, 0, "{output}");
    let before = proxy.was_upgraded();
    assert_ne!(before, proxy.pid);
    let runs = |pid: u32| file(&PathBuf::from(format!("/proc/{pid}/exe")));
    assert_eq!(runs(proxy.pid), file(&programs.path("miren-proxy")));
    assert_eq!(socket.echo("hello").expect("the WebSocket lives on"), "hello");
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    drop(socket);
    drop(proxy);
    node.stop();
}
