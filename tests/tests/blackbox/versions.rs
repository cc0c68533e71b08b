//! Variables, earlier versions and deploys that are called off, as a user has them.

use miren_api::deploy::{Deploy, DeployStatus};
use miren_api::resource::{Version, VersionStatus};
use miren_blackbox::{AppFolder, Node};
use serde_json::Value;

const HOST: &str = "kept.example.com";

fn answer(node: &Node, key: &str) -> String {
    node.get(HOST, "/info").field(key).to_owned()
}

#[test]
fn variables_are_one_deploy_and_stay_until_a_rollback_takes_them_back() {
    let node = Node::start();
    let app = AppFolder::rust("kept").release("one").fixed(1);
    let first = node.deploy_at(&app, HOST);
    let set: Value = node
        .cli
        .json(&["env", "set", "-a", "kept", "COLOR=red", "SIZE=9", "SHAPE=round"]);
    assert_eq!((&set["status"], &set["seq"]), (&"SUCCEEDED".into(), &2.into()), "{set}");
    let listed: Vec<Value> = node.cli.json(&["env", "list", "-a", "kept"]);
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(
        node.cli.call(&["env", "get", "-a", "kept", "COLOR"]).stdout.trim(),
        "red"
    );
    app.set_release("two");
    node.deploy_at(&app, HOST);
    assert_eq!(answer(&node, "release"), "two");
    assert_eq!(node.cli.call(&["env", "get", "-a", "kept", "SIZE"]).stdout.trim(), "9");

    let back: Value = node
        .cli
        .json(&["rollback", "-a", "kept", "--to", first.version.as_str()]);
    assert_eq!(
        (&back["status"], &back["version"]),
        (&"SUCCEEDED".into(), &first.version.as_str().into())
    );
    assert_eq!(answer(&node, "release"), "one");
    assert_eq!(
        node.cli.call(&["env", "get", "-a", "kept", "SIZE"]).code,
        3,
        "it had no variables"
    );
    let versions: Vec<Version> = node.cli.json(&["app", "versions", "-a", "kept"]);
    let active: Vec<_> = versions.iter().filter(|v| v.status == VersionStatus::Active).collect();
    assert_eq!((versions.len(), active.len()), (3, 1));
    node.stop();
}

#[test]
fn a_deploy_is_called_off_and_the_list_tells_how_each_one_ended() {
    let node = Node::start();
    let app = AppFolder::rust("kept").release("one").fixed(1);
    node.deploy_at(&app, HOST);
    let silent = AppFolder::empty("kept")
        .command("sleep 1000")
        .and("port_timeout = \"60s\"");
    let folder = silent.path().to_str().expect("a path in UTF-8");
    let asked: Value = node.cli.json(&["deploy", "-d", folder, "--detach"]);
    let id = asked["deploy"].as_str().expect("an id");
    let cancelled = node.cli.call(&["deploy", "cancel", id]);
    assert_eq!(cancelled.code, 0, "{cancelled}");
    assert_eq!(answer(&node, "release"), "one");
    let listed: Vec<Deploy> = node.cli.json(&["deploy", "list", "-a", "kept"]);
    let told: Vec<_> = listed.iter().map(|deploy| (deploy.seq, deploy.status)).collect();
    assert_eq!(told, [(2, DeployStatus::Failed), (1, DeployStatus::Succeeded)]);
    assert_eq!(listed[0].error.as_deref(), Some("cancelled by request"));
    let again = node.cli.call(&["deploy", "cancel", id]);
    assert_eq!(again.code, 4, "{again}");
    node.stop();
}
