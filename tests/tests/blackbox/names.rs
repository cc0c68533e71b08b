//! Apps at their names, restarts of what serves, and folders that have no settings yet: as a user meets them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use miren_blackbox::http::Response;
use miren_blackbox::{AppFolder, Mixed, Node, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a host answers like this: status, code, and the app.
#[track_caller]
fn answers(node: &Node, host: &str, expected: (u16, &str, &str)) -> Response {
    wait_until(&format!("{host} to answer {expected:?}"), PATIENCE, || {
        let response = node.get(host, "/info");
        let app = match response.status {
            200 => response.field("app"),
            _ => String::new(),
        };
        match (response.status, response.code(), app.as_str()) == expected {
            true => Ok(response),
            false => Err(format!("{response:?}")),
        }
    })
}

#[test]
fn g15_each_app_is_at_its_name_and_its_previews_before_it() {
    let node = Node::start();
    for name in ["first", "shop"] {
        let deployed = node.cli.deploy(AppFolder::rust(name).fixed(1).path());
        let url = format!("http://{name}.localhost:{}", node.http.port());
        assert_eq!(deployed.field("/urls/0"), url, "{deployed}");
    }
    for host in ["shop.localhost", "SHOP.LocalHost.", "shop.localhost:8080"] {
        answers(&node, host, (200, "", "shop"));
    }
    answers(&node, "nobody.localhost", (200, "", "first"));
    let preview = AppFolder::rust("shop").release("preview");
    let made = node
        .cli
        .call_json(&["deploy", "-d", preview.path().to_str().unwrap(), "--ephemeral", "pr1"]);
    assert_eq!(
        made.field("/urls/0"),
        format!("http://pr1.shop.localhost:{}", node.http.port()),
        "{made}"
    );
    assert_eq!(
        answers(&node, "pr1.shop.localhost", (200, "", "shop")).field("release"),
        "preview"
    );
    answers(&node, "pr2.shop.localhost", (404, "no_such_ephemeral", ""));

    let remove = node.cli.call_json(&["route", "remove", "shop.localhost"]);
    assert_eq!(remove.code, 4, "{remove}");
    assert!(remove.text().contains("ingress.apps_domain"), "{remove}");
    let _route: Value = node.cli.json(&["route", "set", "shop.localhost", "first"]);
    answers(&node, "shop.localhost", (200, "", "first"));
    let _route: Value = node.cli.json(&["route", "remove", "shop.localhost"]);
    answers(&node, "shop.localhost", (200, "", "shop"));
    let routes: Vec<Value> = node.cli.json(&["route", "list"]);
    let derived: Vec<&Value> = routes.iter().filter(|route| route["derived"] == true).collect();
    assert_eq!(derived.len(), 2, "{routes:?}");

    let _app: Value = node.cli.json(&["app", "delete", "shop", "-f"]);
    answers(&node, "shop.localhost", (200, "", "first"));
    node.stop();
}

#[test]
fn g15_a_restart_replaces_every_sandbox_and_fails_no_request() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(2);
    let first = node.deploy(&app);
    let ids = |node: &Node| -> Vec<String> {
        let running = node.running("shop");
        running.iter().map(|sandbox| sandbox.id.to_string()).collect()
    };
    let mut before = ids(&node);
    let mixed = Mixed::start(&node, "shop.localhost");
    for seq in 2..=4 {
        let restarted = node.cli.call_json(&["app", "restart", "-a", "shop"]);
        assert_eq!(restarted.code, 0, "{restarted}");
        assert_eq!(restarted.field("/status"), "SUCCEEDED", "{restarted}");
        assert_eq!(restarted.field("/version"), first.version, "{restarted}");
        assert_eq!(
            (restarted.field("/seq"), restarted.field("/reused")),
            (seq.to_string(), "false".into())
        );
        let now = ids(&node);
        assert!(
            now.len() == 2 && now.iter().all(|id| !before.contains(id)),
            "{before:?} became {now:?}"
        );
        before = now;
    }
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    let nothing = node.cli.call_json(&["app", "restart", "-a", "nobody"]);
    assert_eq!(nothing.code, 3, "{nothing}");
    node.stop();
}

/// Writes settings for a folder and deploys it.
#[track_caller]
fn init_and_deploy(node: &Node, folder: &Path) {
    let folder = folder.to_str().unwrap();
    for call in [
        &["init", "-d", folder][..],
        &["app", "validate", "-d", folder],
        &["deploy", "-d", folder],
    ] {
        let output = node.cli.call_json(call);
        assert_eq!(output.code, 0, "{output}");
    }
}

#[test]
fn g15_what_init_writes_for_a_python_program_and_for_pages_deploys() {
    let node = Node::start();
    let outer = tempfile::tempdir().unwrap();
    let (snake, pages) = (outer.path().join("Snake"), outer.path().join("pages"));
    fs::create_dir(&snake).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps/hello-python/server.py");
    fs::copy(program, snake.join("server.py")).unwrap();
    init_and_deploy(&node, &snake);
    answers(&node, "snake.localhost", (200, "", "snake"));
    fs::create_dir_all(pages.join("public")).unwrap();
    fs::write(pages.join("public/index.html"), "<p>hello</p>").unwrap();
    init_and_deploy(&node, &pages);
    let response = node.get("pages.localhost", "/");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "<p>hello</p>"),
        "{response:?}"
    );
    assert_eq!(
        node.get("pages.localhost", "/.miren/app.toml").status,
        404,
        "only the pages are served"
    );
    let again = node.cli.call(&["init", "-d", pages.to_str().unwrap()]);
    assert_eq!(again.code, 4, "{again}");
    node.stop();
}
