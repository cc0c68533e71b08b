//! Decides that a sandbox sees and can do what it needs, and nothing else.

use crate::client::ask;
use crate::node::{contents, status_field, with_config, with_node};
use crate::outside::Outside;
use crate::probes::{self, Outcome};
use miren_api::id::AppName;
use miren_api::resource::SandboxState;
use miren_sandbox::NodeConfig;
use std::cell::OnceCell;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// EPERM and ENOSYS.
const REFUSED: &str = "1";
const UNKNOWN: &str = "38";

#[test]
fn only_programs_settings_and_its_own_files_are_visible() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let root = ask(&running, "list/");
        let allowed = [
            "app", "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "tmp", "usr",
        ];
        for name in root.lines() {
            assert!(allowed.contains(&name), "/{name} is visible: {root:?}");
        }
        for secret in ["etc/shadow", "etc/ssl/private", "root", "home", "var", "sys/class"] {
            assert!(
                ask(&running, &format!("read/{secret}")).starts_with("error: No such file"),
                "/{secret}"
            );
        }
        for empty in ["tmp", "run"] {
            assert_eq!(ask(&running, &format!("list/{empty}")), "", "/{empty}");
        }
        assert_eq!(ask(&running, "list/app"), "app");
        let passwd = ask(&running, "read/etc/passwd");
        assert_eq!(passwd.lines().count(), 2, "users of the host: {passwd}");
        let environment = ask(&running, "env");
        let mut names: Vec<&str> = environment
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "PATH", "PORT"]);
        let mounts = ask(&running, "read/proc/self/mountinfo");
        assert!(!mounts.contains(" /work") && !mounts.contains(" /root"), "{mounts}");
        stop(node, &order).await;
    });
}

#[test]
fn it_sees_only_its_own_processes_and_host_name() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let numbers = ask(&running, "list/proc");
        let processes: Vec<&str> = numbers
            .lines()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .collect();
        assert_eq!(
            (processes.len(), processes[0]),
            (2, "1"),
            "its init and itself: {processes:?}"
        );
        assert_eq!(ask(&running, "read/proc/sys/kernel/hostname").trim(), order.id.as_str());
        assert_eq!(
            ask(&running, "read/proc/self/cgroup")
                .lines()
                .find(|line| !line.ends_with('/')),
            None
        );
        stop(node, &order).await;
    });
}

#[test]
fn what_it_writes_is_its_own_and_gone_with_it() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let before = contents(order.app_files.as_deref().expect("a folder"));
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "write/app/app.db"), "ok");
        assert_eq!(ask(&running, "write/tmp/scratch"), "ok");
        assert_eq!(ask(&running, "read/app/app.db"), "written");
        for place in ["usr/bin/evil", "etc/evil", "evil", "bin/evil"] {
            let answer = ask(&running, &format!("write/{place}"));
            assert!(answer.contains("Read-only file system"), "/{place}: {answer}");
        }
        assert!(
            contents(order.app_files.as_deref().expect("a folder")) == before,
            "the artifact was changed"
        );
        stop(node, &order).await;
        let next = node.order("listen 0.0.0.0");
        let running = node.run(&next).await;
        assert_eq!(
            ask(&running, "list/app"),
            "app",
            "the next sandbox starts with the artifact's files"
        );
        stop(node, &next).await;
    });
}

#[test]
fn dangerous_system_calls_are_refused() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let pid = running.facts.pid.expect("a pid");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
        assert_eq!(status_field(&status, "Seccomp"), "2");
        assert_eq!(status_field(&status, "NoNewPrivs"), "1");
        let capabilities = u64::from_str_radix(&status_field(&status, "CapBnd"), 16).expect("a number");
        assert_eq!(capabilities & !0b101_1111_1011, 0, "more than the wanted capabilities");
        for name in [
            "mount",
            "unshare-user",
            "ptrace",
            "bpf",
            "keyctl",
            "userfaultfd",
            "mknod",
        ] {
            assert_eq!(ask(&running, &format!("call/{name}")), REFUSED, "{name}");
        }
        assert_eq!(ask(&running, "call/clone3"), UNKNOWN);
        assert_eq!(ask(&running, "call/unshare-fs"), "0", "only new namespaces are refused");
        stop(node, &order).await;
    });
}

#[test]
fn sandboxes_reach_the_ingress_but_neither_the_host_nor_each_other() {
    let ingress = OnceCell::new();
    let configure = |config: &mut NodeConfig| {
        let listener = ingress.get_or_init(|| TcpListener::bind("0.0.0.0:0").expect("a listener"));
        config.ingress = vec![listener.local_addr().expect("an address")];
    };
    with_config(configure, async |node| {
        let (one, mut two) = (node.order("listen 0.0.0.0"), node.order("listen 0.0.0.0"));
        two.app = AppName::parse("other").expect("a name");
        let first = node.run(&one).await;
        let second = node.run(&two).await;
        assert_ne!(first.facts.ip, second.facts.ip);
        let other = second.facts.ip.expect("an address");
        let answer = ask(&first, &format!("connect/{other}:3000"));
        assert!(answer.starts_with("error"), "one sandbox reached another: {answer}");
        let gateway = node.config.subnet.gateway();
        let ingress = ingress.get().expect("a listener").try_clone().expect("a listener");
        let port = ingress.local_addr().expect("an address").port();
        std::thread::spawn(move || drop(ingress.accept()));
        assert_eq!(ask(&first, &format!("connect/{gateway}:{port}")), "ok");
        let host = TcpListener::bind((gateway, 0)).expect("a listener on the bridge");
        let port = host.local_addr().expect("an address").port();
        let answer = ask(&first, &format!("connect/{gateway}:{port}"));
        assert!(answer.contains("refused"), "a sandbox reached the host: {answer}");
        stop(node, &one).await;
        stop(node, &two).await;
    });
}

#[test]
fn it_can_neither_take_ports_of_the_host_nor_reach_its_sockets() {
    with_node(async |node| {
        let gateway = node.config.subnet.gateway();
        let host = TcpListener::bind((gateway, 0)).expect("a listener on the bridge");
        let port = host.local_addr().expect("an address").port();
        let socket = node.config.run_dir.join("control.sock");
        let _listens = UnixListener::bind(&socket).expect("a socket");
        let name = format!("miren-{}", node.config.name);
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let _listens_too = UnixListener::bind_addr(&address).expect("a socket");
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        assert_eq!(
            ask(&running, &format!("bind/0.0.0.0:{port}")),
            "ok",
            "its ports are its own"
        );
        assert!(ask(&running, &format!("bind/{gateway}:{port}")).contains("Cannot assign"));
        assert!(ask(&running, "bind/127.0.0.1:3001").starts_with("ok"));
        let path = socket.strip_prefix("/").expect("a whole path").display();
        assert!(
            ask(&running, &format!("unix/{path}")).contains("No such file"),
            "its folder is visible"
        );
        assert!(
            ask(&running, &format!("abstract/{name}")).contains("refused"),
            "its network is the host's"
        );
        stop(node, &order).await;
    });
}

#[test]
fn other_networks_are_reached_under_the_address_of_the_node() {
    with_node(async |node| {
        let outside = Outside::new("up", &["192.0.2.1/24"], &["192.0.2.2/24"]);
        let listeners = outside.listen(0);
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let namespace = node.config.run_dir.join("netns").join(running.id.as_str());
        let reached = probes::tcp(&namespace, listeners.at("192.0.2.2").into());
        assert_eq!(reached, Outcome::Reached);
        let (_, peer) = listeners.tcp.accept().expect("a connection");
        assert_eq!(
            peer.ip().to_string(),
            "192.0.2.1",
            "the address of the sandbox was not rewritten"
        );
        stop(node, &order).await;
    });
}

#[test]
fn packets_to_addresses_without_sandbox_do_not_leave_the_node() {
    with_node(async |node| {
        let routes = std::process::Command::new("ip").args(["route"]).output().expect("ip");
        let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
        let backstop = format!("unreachable {} proto static metric 9999", node.config.subnet);
        assert!(routes.contains(&backstop), "{routes}");
        let rules = std::process::Command::new("nft")
            .args(["list", "ruleset"])
            .output()
            .expect("nft");
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        assert!(
            rules.contains("masquerade") && rules.contains("table ip miren_test_"),
            "{rules}"
        );
    });
}

async fn stop(node: &mut crate::node::TestNode, order: &miren_sandbox::StartOrder) {
    node.drain_now(&order.id, "test over");
    node.until(&order.id, SandboxState::Stopped).await;
}
