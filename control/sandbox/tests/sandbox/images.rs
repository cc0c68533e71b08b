//! Decides that a sandbox of an image runs what the image says, sees what is in it, and writes nothing back.

use crate::archive::{Archive, libraries};
use crate::client::ask;
use crate::node::{TestNode, contents, status_field, with_config, with_node};
use miren_api::id::SandboxId;
use miren_api::resource::SandboxState::{Running, Stopped};
use miren_api::settings::Bytes;
use miren_sandbox::{NodeConfig, Root, StartOrder};
use serde_json::json;
use std::collections::HashSet;
use std::fs;

pub async fn stop(node: &mut TestNode, order: &StartOrder) {
    node.sandboxes().kill(&order.id, "test over");
    node.until(&order.id, Stopped).await;
}

fn another(order: &StartOrder) -> StartOrder {
    StartOrder {
        id: SandboxId::generate(),
        ..order.clone()
    }
}

#[test]
fn an_image_runs_its_own_command_as_its_user_where_and_with_what_it_says() {
    with_node(async |node| {
        let mut archive = Archive::new();
        archive.config["User"] = "app".into();
        archive.config["WorkingDir"] = "/srv".into();
        archive.config["Env"] = json!(["MODE=image", "PORT=1"]);
        let (_, order) = archive.order(node).await;
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "cwd"), "/srv");
        assert_eq!(ask(&running, "read/srv/data"), "of the image");
        let status = ask(&running, "read/proc/self/status");
        assert_eq!(status_field(&status, "Uid"), "1000\t1000\t1000\t1000");
        assert_eq!(status_field(&status, "Gid"), "1001\t1001\t1001\t1001");
        assert_eq!(status_field(&status, "Groups").trim(), "4 1001");
        assert_eq!(status_field(&status, "CapEff"), "0000000000000000");
        let env = ask(&running, "env");
        for expected in ["MODE=image", "PORT=3000", "HOME=/srv"] {
            assert!(env.lines().any(|line| line == expected), "{expected}: {env}");
        }
        let root = ask(&running, "list/");
        assert!(!root.contains("usr") || libraries_are_in_usr(), "{root}");
        assert!(!root.lines().any(|name| name == "app"), "there is no folder: {root}");
        let refused = ask(&running, "write/srv/data");
        assert!(refused.contains("Permission denied"), "{refused}");
        let hosts = ask(&running, "read/etc/hosts");
        assert!(hosts.contains(order.id.as_str()), "{hosts}");
        stop(node, &order).await;
    });
}

/// Where the libraries of the test's app are on this machine.
fn libraries_are_in_usr() -> bool {
    let app = env!("CARGO_BIN_EXE_miren-sandbox-testapp");
    libraries(app.as_ref()).iter().any(|path| path.starts_with("/usr"))
}

#[test]
fn what_it_writes_to_its_root_is_its_own_and_gone_with_it() {
    with_node(async |node| {
        let (image, order) = Archive::new().order(node).await;
        let layers = node.config.images.as_ref().expect("a store").lower_dirs(&image);
        let layer = layers.expect("layers").remove(0);
        let of_layer = || ["srv", "etc"].map(|folder| contents(&layer.join(folder)));
        let before = of_layer();
        let running = node.run(&order).await;
        for place in ["etc/passwd", "new", "tmp/x", "srv/data"] {
            assert_eq!(ask(&running, &format!("write/{place}")), "ok", "/{place}");
        }
        assert_eq!(ask(&running, "read/srv/data"), "written");
        let next = another(&order);
        let beside = node.run(&next).await;
        assert_eq!(ask(&beside, "read/srv/data"), "of the image");
        assert!(ask(&beside, "read/new").starts_with("error: No such file"));
        assert!(of_layer() == before, "the layer was changed");
        for order in [&order, &next] {
            stop(node, order).await;
        }
    });
}

#[test]
fn a_folder_is_laid_over_an_image_and_over_nothing() {
    with_node(async |node| {
        let (_, mut over) = Archive::new().order(node).await;
        let folder = node.order("").app_files.expect("a folder");
        over.app_files = Some(folder.clone());
        over.service.command = "./app listen 0.0.0.0".into();
        let running = node.run(&over).await;
        assert_eq!(ask(&running, "cwd"), "/app");
        assert_eq!(ask(&running, "read/srv/data"), "of the image");
        // With its own loader, which finds its libraries beside it.
        let mut loader = String::new();
        for library in libraries(&folder.join("app")) {
            let name = library.file_name().expect("a name").to_str().expect("a name");
            fs::copy(&library, folder.join(name)).expect("a copy");
            if name.starts_with("ld-") {
                loader = name.to_owned();
            }
        }
        let mut bare = node.order("");
        bare.root = Root::Scratch;
        bare.service.command = format!("./{loader} --library-path /app ./app listen 0.0.0.0");
        let running = node.run(&bare).await;
        assert_eq!(ask(&running, "cwd"), "/app");
        assert!(ask(&running, "list/usr").starts_with("error"), "something of the host");
        assert_eq!(ask(&running, "write/app/own"), "ok");
        for order in [&over, &bare] {
            stop(node, order).await;
        }
    });
}

#[test]
fn b2_what_is_wrong_with_an_image_is_said() {
    with_node(async |node| {
        let (image, order) = Archive::new().order(node).await;
        let images = node.config.images.clone().expect("a store");
        drop(image);
        images.collect(&HashSet::new()).await.expect("a collection");
        let gone = node.fail(&order).await;
        assert!(gone.starts_with("image: sha256:"), "{gone}");
        assert!(
            gone.ends_with("is not on this machine any more; deploy it again"),
            "{gone}"
        );
        let mut silent = Archive::new();
        silent.config = json!({});
        let (_silent, order) = silent.order(node).await;
        let reason = node.fail(&order).await;
        assert_eq!(
            reason,
            "image: it names no command; set services.web.command in app.toml"
        );
        let mut strange = Archive::new();
        strange.config["User"] = "nobody-known".into();
        let (_strange, order) = strange.order(node).await;
        let reason = node.fail(&order).await;
        assert!(
            reason.starts_with("image: ") && reason.contains("no user \"nobody-known\""),
            "{reason}"
        );
        let mut missing = Archive::new();
        missing.config["Entrypoint"] = json!(["/bin/absent"]);
        let (_missing, order) = missing.order(node).await;
        let reason = node.fail(&order).await;
        assert!(reason.contains("command not found: /bin/absent"), "{reason}");
    });
}

#[test]
fn an_image_of_many_layers_is_seen_whole() {
    with_node(async |node| {
        let mut archive = Archive::new();
        for number in 0..60 {
            archive.add(&format!("srv/{number}"), &number.to_string());
        }
        archive.add("srv/data", "of the topmost");
        let (_, order) = archive.order(node).await;
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "read/srv/0"), "0");
        assert_eq!(ask(&running, "read/srv/59"), "59");
        assert_eq!(ask(&running, "read/srv/data"), "of the topmost");
        stop(node, &order).await;
    });
}

#[test]
fn an_image_stays_for_as_long_as_a_sandbox_of_it_also_over_a_restart() {
    with_node(async |node| {
        let (image, order) = Archive::new().order(node).await;
        let digest = image.digest;
        drop(image);
        node.run(&order).await;
        let images = node.config.images.clone().expect("a store");
        let is_there = async || {
            images.collect(&HashSet::new()).await.expect("a collection");
            images.get(&digest).expect("the store").is_some()
        };
        assert!(is_there().await, "taken from a sandbox that runs");
        let known = node.known(&order);
        node.kill_daemon().await;
        let adopted = node.restart_daemon(vec![known]).await;
        assert!(adopted.iter().all(|change| change.state == Running), "{adopted:?}");
        assert!(is_there().await, "taken from a sandbox that was adopted");
        stop(node, &order).await;
        node.sandboxes().drained().await;
        assert!(!is_there().await, "kept without a reason");
    });
}

#[test]
fn a_sandbox_that_fills_its_disk_hurts_nobody_else() {
    let small = |config: &mut NodeConfig| config.defaults.memory = Some(Bytes(128 << 20));
    with_config(small, async |node| {
        let (_, of_image) = Archive::new().order(node).await;
        let of_folder = node.order("listen 0.0.0.0");
        let well = node.order("listen 0.0.0.0");
        let beside = node.run(&well).await;
        for (order, place) in [(&of_image, "srv/large"), (&of_folder, "app/large")] {
            let running = node.run(order).await;
            let full = ask(&running, &format!("fill/{place}"));
            assert!(full.contains("No space left"), "/{place}: {full}");
            assert_eq!(ask(&beside, "write/app/small"), "ok");
            let next = node.order("listen 0.0.0.0");
            node.run(&next).await;
            stop(node, &next).await;
        }
        for order in [&of_image, &of_folder, &well] {
            stop(node, order).await;
        }
    });
}
