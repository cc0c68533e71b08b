//! A folder with a Dockerfile, as a user has it: built on the server, served, built anew, refused, called off.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use miren_blackbox::{AppFolder, ContainerImage, Node, NodeOptions, Registry, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const HOST: &str = "shop.example.com";
/// For what takes the machine a moment.
const LIMIT: Duration = Duration::from_secs(60);

/// A node whose Dockerfiles may have bases from a registry on its loopback.
fn node() -> (Node, Registry) {
    let registry = Registry::start();
    (NodeOptions::unique().registry(&registry).start(), registry)
}

/// What Dockerfiles of these tests stand on.
fn tools(registry: &Registry) -> String {
    let image = ContainerImage::of_programs(&["/bin/bash", "/usr/bin/cat", "/usr/bin/sleep", "/usr/bin/timeout"]);
    registry.push("tools:1", &image)
}

/// The Rust sample app, to be built on `base`; `steps` come before its own.
fn shop(base: &str, steps: &str) -> AppFolder {
    let app = AppFolder::rust("shop").app_toml("name = \"shop\"\n[build]\nbuilder = \"buildah\"\n");
    let dockerfile = format!(
        "FROM {base}\nSHELL [\"/bin/bash\", \"-c\"]\nWORKDIR /srv\n{steps}\nCOPY . .\nEXPOSE 8080\nUSER 1000\nCMD [\"./hello-rust\"]\n"
    );
    fs::write(app.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
    app
}

fn release(node: &Node) -> String {
    node.get(HOST, "/info").field("release").to_owned()
}

/// Steps of its Dockerfile wrote them: they are for no other app of its name.
#[test]
fn f1_the_layers_of_an_app_go_with_it() {
    let (node, registry) = node();
    let app = shop(&tools(&registry), "RUN echo first").release("one");
    node.deploy(&app);
    let layers = node.folder().join("data/builds/layers/shop");
    assert!(layers.exists(), "{}", layers.display());
    let deleted = node.cli.call(&["app", "delete", "shop", "-f"]);
    assert_eq!(deleted.code, 0, "{deleted}");
    let all = node.folder().join("data/builds");
    wait_until("its layers to be gone", LIMIT, || {
        let left = fs::read_dir(&all).expect("a folder");
        let left: Vec<String> = left
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into())
            .collect();
        let is_gone = !layers.exists() && !left.iter().any(|name| name.starts_with("discarded"));
        if is_gone { Ok(()) } else { Err(format!("{left:?}")) }
    });
    node.stop();
}

#[test]
fn a_dockerfile_is_built_with_its_output_shown_and_served() {
    let (node, registry) = node();
    let app = shop(&tools(&registry), "RUN echo one step of $((20 + 22))").release("one");
    fs::write(app.path().join(".dockerignore"), "*.secret\n").expect("a file");
    fs::write(app.path().join("some.secret"), "secret").expect("a file");
    let folder = app.path().to_string_lossy();
    let deployed = node.cli.call(&["deploy", "-d", &folder]);
    assert_eq!(deployed.code, 0, "{deployed}");
    for shown in [
        "to be built by its Dockerfile",
        "building Dockerfile with buildah",
        "one step of 42",
    ] {
        assert!(deployed.stderr.contains(shown), "{shown:?} is missing in {deployed}");
    }
    node.route(HOST, "shop");
    assert_eq!(release(&node), "one");
    let sandbox = node.running("shop").remove(0);
    assert_eq!(sandbox.port, Some(8080), "as the image says");
    let listing = [
        "sandbox",
        "exec",
        sandbox.id.as_str(),
        "--",
        "/bin/bash",
        "-c",
        "echo *",
    ];
    let files = node.cli.call(&listing);
    assert_eq!(files.stdout.trim(), "Dockerfile VERSION hello-rust", "{files}");
    // The same folder is the same image, and so the same pool; another variable is no reason to build.
    let again = node.cli.deploy(app.path());
    assert_eq!(again.parsed::<Value>()["reused"], true, "{again}");
    let set: Value = node.cli.json(&["env", "set", "-a", "shop", "COLOR=red"]);
    assert_eq!(set["status"], "SUCCEEDED", "{set}");
    app.set_release("two");
    node.deploy(&app);
    assert_eq!(release(&node), "two");
    let back: Value = node.cli.json(&["rollback", "-a", "shop"]);
    assert_eq!(back["status"], "SUCCEEDED", "{back}");
    assert_eq!(release(&node), "one");
    node.stop();
}

#[test]
fn b2_a_build_that_fails_says_why_and_leaves_what_serves() {
    let (node, registry) = node();
    let base = tools(&registry);
    node.deploy_at(&shop(&base, "").release("one"), HOST);
    let failed = node.cli.deploy(shop(&base, "RUN echo the reason >&2; exit 3").path());
    assert_ne!(failed.code, 0, "{failed}");
    let error = failed.parsed::<Value>()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        error.starts_with("image: buildah build of Dockerfile: exit status"),
        "{failed}"
    );
    assert!(error.contains("the reason"), "{failed}");
    let absent = base.replace("tools:1", "tools:2");
    let failed = node.cli.deploy(shop(&absent, "").path());
    assert!(failed.stdout.contains("buildah pull"), "{failed}");
    assert!(failed.stdout.contains(&absent), "{failed}");
    let app = shop(&base, "").app_toml("name = \"shop\"\n[build]\nbuilder = \"docker\"\ndockerfile = \"none\"\n");
    let refused = node.cli.deploy(app.path());
    assert!(refused.stdout.contains("the folder has no file"), "{refused}");
    assert_eq!(release(&node), "one", "it serves what it served");
    node.stop();
}

/// Prints whether a TCP connection comes about.
fn knock(address: Ipv4Addr, port: u16) -> String {
    format!(
        "timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null && echo reached {address} || echo no way to {address}"
    )
}

#[test]
fn a_build_sees_nothing_of_the_host_and_reaches_no_sandbox() {
    let registry = Registry::start();
    let node = NodeOptions::unique().registry(&registry).http("0.0.0.0:0").start();
    let base = tools(&registry);
    node.deploy_at(&AppFolder::rust("other").fixed(1), "other.example.com");
    let other = node.wait_running("other", 1).remove(0);
    let (address, port) = (other.ip.expect("an address"), other.port.expect("a port"));
    let IpAddr::V4(address) = address else {
        panic!("{address} is no IPv4 address")
    };
    // The first address of a node's subnet is the node's own; that the ingress is reached shows that knocking works.
    let gateway = Ipv4Addr::from((u32::from(address) & !0xff) | 1);
    let [on_loopback, on_bridge] = [Ipv4Addr::LOCALHOST, gateway].map(|at| TcpListener::bind((at, 0)).expect("a port"));
    let port_of = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let steps = [
        format!("RUN {}", knock(address, port)),
        format!("RUN {}", knock(Ipv4Addr::LOCALHOST, port_of(&on_loopback))),
        format!("RUN {}", knock(gateway, port_of(&on_bridge))),
        format!("RUN {}", knock(gateway, node.http.port())),
        "RUN echo first process: $(cat /proc/1/comm)".to_owned(),
        format!(
            "RUN [[ -e {} ]] && echo the node is there || echo no node",
            node.folder().display()
        ),
    ];
    let app = shop(&base, &steps.join("\n"));
    let deployed = node.cli.call(&["deploy", "-d", &app.path().to_string_lossy()]);
    assert_eq!(deployed.code, 0, "{deployed}");
    // Whole lines: the instructions are shown as well.
    let lines: Vec<&str> = deployed.stderr.lines().map(str::trim).collect();
    for told in [
        &format!("no way to {address}"),
        "no way to 127.0.0.1",
        &format!("no way to {gateway}"),
        &format!("reached {gateway}"),
        "first process: bash",
        "no node",
    ] {
        assert!(lines.contains(&told), "{told:?} is missing in {deployed}");
    }
    node.stop();
}

/// A deploy whose build waits for ever, once it does.
fn hanging(node: &Node, base: &str, mark: &str) -> (Child, String) {
    let app = shop(base, &format!("RUN echo now {mark}; exec -a {mark} sleep 3000"));
    let mut command = node.cli.command(&["deploy", "-d", &app.path().to_string_lossy()]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command");
    let mut lines = BufReader::new(child.stderr.take().expect("its errors")).lines();
    let said = format!("now {mark}");
    // The instruction itself is shown before it is run.
    let is_there = lines.any(|line| line.expect("a line").trim() == said);
    assert!(is_there, "the build does not begin");
    wait_until("the process that is said to begin", LIMIT, || match runs(mark) {
        true => Ok(()),
        false => Err("nothing runs"),
    });
    let deploys: Vec<Value> = node.cli.json(&["deploy", "list", "-a", "shop"]);
    let newest = deploys.iter().max_by_key(|deploy| deploy["seq"].as_u64());
    let id = newest.expect("a deploy")["id"].as_str().expect("an id").to_owned();
    (child, id)
}

/// Whether a process with this name of its own runs on the machine.
fn runs(mark: &str) -> bool {
    let commands = miren_blackbox::process::all()
        .into_iter()
        .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    commands.into_iter().any(|line| line.starts_with(mark.as_bytes()))
}

fn wait_gone(mark: &str) {
    wait_until("the end of the build", LIMIT, || match runs(mark) {
        true => Err("it runs"),
        false => Ok(()),
    });
}

#[test]
fn a_build_that_is_called_off_ends_with_all_its_processes() {
    let (node, registry) = node();
    let base = tools(&registry);
    let mark = format!("{}-off", node.name());
    let (mut following, id) = hanging(&node, &base, &mark);
    let cancelled: Value = node.cli.json(&["deploy", "cancel", &id]);
    assert_eq!(cancelled["status"], "FAILED", "{cancelled}");
    wait_gone(&mark);
    assert_ne!(following.wait().expect("its end").code(), Some(0));
    node.deploy_at(&shop(&base, "").release("one"), HOST);
    assert_eq!(release(&node), "one", "the next one has its turn");
    node.stop();
}

#[test]
fn a_build_dies_with_control_and_begins_anew_with_the_next() {
    let (node, registry) = node();
    let base = tools(&registry);
    let mark = format!("{}-kill", node.name());
    let (mut following, id) = hanging(&node, &base, &mark);
    let control = node.control_pid().expect("control");
    let first = miren_blackbox::process::all()
        .into_iter()
        .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(mark.as_bytes())))
        .expect("the build");
    miren_blackbox::process::signal(control, Signal::SIGKILL);
    wait_until(
        "the end of the first build",
        LIMIT,
        || match miren_blackbox::process::is_alive(first) {
            true => Err("it runs"),
            false => Ok(()),
        },
    );
    wait_until("the build, begun anew", LIMIT, || match runs(&mark) {
        true => Ok(()),
        false => Err("nothing runs"),
    });
    let cancelled: Value = node.cli.json(&["deploy", "cancel", &id]);
    assert_eq!(cancelled["status"], "FAILED", "{cancelled}");
    wait_gone(&mark);
    assert_ne!(following.wait().expect("its end").code(), Some(0));
    node.stop();
}
