//! What an app sees of the machine: its own files and the host's system folders, nothing else.

use std::fs;

use miren_blackbox::{AppFolder, Node};
use serde_json::Value;

const HOST: &str = "inside.example.com";

#[test]
fn an_app_sees_its_files_and_the_hosts_system_folders_and_nothing_else() {
    let node = Node::start();
    let secret = tempfile::Builder::new().prefix("miren-secret-").tempfile().unwrap();
    let app = AppFolder::empty("inside")
        .command("exec python3 -m http.server $PORT --directory /")
        .fixed(1);
    fs::write(app.path().join("mine.txt"), "my own file").unwrap();
    node.deploy(&app);
    assert_eq!(node.cli.call(&["route", "set", HOST, "inside"]).code, 0);
    miren_blackbox::wait_until("the route", std::time::Duration::from_secs(60), || {
        let response = node.get(HOST, "/app/mine.txt");
        if response.text() == "my own file" {
            Ok(())
        } else {
            Err(format!("{response:?}"))
        }
    });
    let status = |path: &str| node.get(HOST, path).status;
    assert_eq!(status("/usr/bin/"), 200);
    assert_eq!(status("/etc/hostname"), 200);
    for hidden in [
        "/root/",
        "/home/",
        "/etc/shadow",
        "/var/lib/dpkg/status",
        "/boot/",
        "/sys/fs/bpf/",
        "/run/",
    ] {
        let response = node.get(HOST, hidden);
        let listed = response.text().matches("<li>").count();
        assert!(
            response.status == 404 || listed == 0,
            "{hidden} is visible: {} {}",
            response.status,
            response.text()
        );
    }
    assert_eq!(
        status(&secret.path().to_string_lossy()),
        404,
        "the host's /tmp is visible"
    );
    assert_eq!(
        status(&node.folder().to_string_lossy()),
        404,
        "the node's own folder is visible"
    );
    let processes = node.get(HOST, "/proc/").text();
    let names = processes
        .lines()
        .filter_map(|line| line.split_once("href=\"")?.1.split_once("/\""));
    let numbers = names.filter(|(name, _)| name.parse::<u32>().is_ok()).count();
    assert_eq!(numbers, 2, "its init and itself: {processes}");
    node.stop();
}

#[test]
fn an_app_is_told_who_it_is() {
    let node = Node::start();
    let app = AppFolder::rust("inside")
        .and("port = 4321")
        .fixed(1)
        .env("COLOUR", "green and \"blue\"");
    let deployed = node.deploy_at(&app, HOST);
    let told: Value = serde_json::from_slice(&node.get(HOST, "/env").body).unwrap();
    let expected = [
        ("PORT", "4321"),
        ("MIREN_APP", "inside"),
        ("MIREN_SERVICE", "web"),
        ("MIREN_VERSION", &deployed.version),
        ("COLOUR", "green and \"blue\""),
    ];
    for (key, value) in expected {
        assert_eq!(told[key].as_str(), Some(value), "{key} in {told}");
    }
    assert!(
        told["MIREN_INSTANCE_NUM"]
            .as_str()
            .is_some_and(|number| number.parse::<u32>().is_ok()),
        "{told}"
    );
    assert!(
        told["PATH"].as_str().is_some_and(|path| path.contains("/usr/bin")),
        "{told}"
    );
    let leaked: Vec<&String> = told
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| key.contains("CARGO"))
        .collect();
    assert!(leaked.is_empty(), "the daemon's own environment is visible: {leaked:?}");
    node.stop();
}

#[test]
fn logs_tell_which_sandbox_said_what() {
    let node = Node::start();
    let app = AppFolder::python("inside").fixed(1);
    node.deploy_at(&app, HOST);
    let sandbox = node.wait_running("inside", 1)[0].clone();
    node.get(HOST, "/info?say=hello");
    miren_blackbox::wait_until("the line in the log", std::time::Duration::from_secs(60), || {
        let lines = miren_blackbox::request_lines(&node.cli, "inside");
        let found = lines
            .iter()
            .any(|line| line.request == "GET /info?say=hello" && line.sandbox == sandbox.id.as_str());
        if found { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    node.stop();
}
