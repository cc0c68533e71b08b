//! Container images as a user has them: by name, from a file, under a folder, again after the name has moved on.

use miren_api::resource::Sandbox;
use miren_blackbox::{AppFolder, ContainerImage, Deployed, Node, NodeOptions, Registry};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

const HOST: &str = "shop.example.com";

fn deploy(node: &Node, arguments: &[&str]) -> Deployed {
    let nothing = AppFolder::empty("none");
    let folder = nothing.path().to_str().expect("a path in UTF-8");
    let common = ["deploy", "-a", "shop", "-d", folder];
    // A folder without settings counts for nothing.
    std::fs::remove_dir(nothing.path().join(".miren")).expect("an empty folder");
    let deployed: Deployed = node.cli.json(&[&common[..], arguments].concat());
    node.cli.json::<Value>(&["route", "set", HOST, "shop"]);
    deployed
}

/// A node that may pull from a registry on its loopback.
fn node() -> (Node, Registry) {
    let registry = Registry::start();
    (NodeOptions::unique().registry(&registry).start(), registry)
}

fn release(node: &Node) -> String {
    node.get(HOST, "/info").field("release").to_owned()
}

#[test]
fn an_image_is_pulled_pinned_and_served_again_after_its_name_has_moved_on() {
    let (node, registry) = node();
    let name = registry.push("shop:latest", &ContainerImage::rust("one"));
    let first = deploy(&node, &["--image", &name]);
    assert_eq!(release(&node), "one");
    registry.push("shop:latest", &ContainerImage::rust("two"));
    // A variable is no reason for other code.
    let set: Value = node.cli.json(&["env", "set", "-a", "shop", "COLOR=red"]);
    assert_eq!(set["status"], "SUCCEEDED", "{set}");
    assert_eq!(release(&node), "one");
    let second = deploy(&node, &["--image", &name]);
    assert_eq!(release(&node), "two");
    assert_ne!(first.pool, second.pool);
    let same = deploy(&node, &["--image", &name]);
    assert!(same.reused, "the same image is the same pool");
    let back: Value = node.cli.json(&["rollback", "-a", "shop", "--to", &first.version]);
    assert_eq!(back["status"], "SUCCEEDED", "{back}");
    assert_eq!(release(&node), "one");
    node.stop();
}

#[test]
fn an_image_is_taken_from_a_file_and_lies_under_a_folder() {
    let (node, registry) = node();
    let archive = node.folder().join("shop.tar");
    ContainerImage::rust("saved").save(&archive);
    let archive = archive.to_str().expect("a path in UTF-8");
    deploy(&node, &["--image-archive", archive]);
    assert_eq!(release(&node), "saved");
    let sandboxes: Vec<Sandbox> = node.cli.json(&["sandbox", "list"]);
    assert!(
        sandboxes.iter().any(|sandbox| sandbox.port == Some(8080)),
        "{sandboxes:?}"
    );
    let base = registry.push("base:1", &ContainerImage::rust("base"));
    let over = AppFolder::rust("over")
        .app_toml(&format!(
            "name = \"over\"\n[build]\nbase = {base:?}\n[services.web]\ncommand = \"./hello-rust\"\n"
        ))
        .release("folder");
    node.deploy_at(&over, "over.example.com");
    let info = node.get("over.example.com", "/info");
    assert_eq!(info.field("release"), "folder");
    node.stop();
}

#[test]
fn b2_an_image_that_cannot_be_had_fails_the_deploy_and_says_why() {
    let (node, registry) = node();
    let name = registry.push("shop:1", &ContainerImage::rust("one"));
    deploy(&node, &["--image", &name]);
    let absent = name.replace("shop:1", "shop:2");
    let failed = node.cli.call_json(&["deploy", "-a", "shop", "--image", &absent]);
    assert_ne!(failed.code, 0, "{failed}");
    assert!(failed.stdout.contains("image: pulling"), "{failed}");
    assert!(failed.stdout.contains(&absent), "{failed}");
    let progress = format!("waiting to pull {absent}");
    assert!(failed.stderr.contains(&progress), "it is told while it lasts: {failed}");
    let unknown = format!("sha256:{}", "0".repeat(64));
    for (image, why) in [
        ("not a name", "reading the image name"),
        (&unknown, "there is no image sha256:000"),
    ] {
        let refused = node.cli.call_json(&["deploy", "-a", "shop", "--image", image]);
        assert_ne!(refused.code, 0, "{refused}");
        assert!(format!("{refused}").contains(why), "{refused}");
    }
    let broken = node.folder().join("broken.tar");
    std::fs::write(&broken, "no archive").expect("a file");
    let broken = broken.to_str().expect("a path in UTF-8");
    let refused = node.cli.call_json(&["deploy", "-a", "shop", "--image-archive", broken]);
    assert_ne!(refused.code, 0, "{refused}");
    assert_eq!(release(&node), "one", "it serves what it served");
    node.stop();
}

/// Every way in which somebody with access to the API can have an image pulled.
#[test]
fn f1_no_deploy_leads_control_to_a_service_of_its_machine_or_network() {
    let node = Node::start();
    let service = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a service of this machine");
    let port = service.local_addr().expect("an address").port();
    service.set_nonblocking(true).expect("a listener");
    for host in [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.1",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let image = format!("{host}:{port}/app:1");
        let named = AppFolder::empty("named").app_toml(&format!(
            "name = \"named\"\n[services.web]\nimage = {image:?}\ncommand = \"/srv/app\"\n"
        ));
        let over = AppFolder::rust("over").app_toml(&format!(
            "name = \"over\"\n[build]\nbase = {image:?}\n[services.web]\ncommand = \"./hello-rust\"\n"
        ));
        let folder = |app: &AppFolder| app.path().to_string_lossy().into_owned();
        let (named, over) = (folder(&named), folder(&over));
        for arguments in [
            ["-a", "shop", "--image", &image].as_slice(),
            &["-d", &named],
            &["-d", &over],
        ] {
            let refused = node.cli.call_json(&[&["deploy"], arguments].concat());
            assert_ne!(refused.code, 0, "{arguments:?}: {refused}");
            assert!(
                format!("{refused}").contains("images.registries"),
                "{arguments:?}: {refused}"
            );
        }
    }
    let asked = service.accept().map(|(_, from)| from);
    assert_eq!(
        asked.map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock),
        "somebody was asked"
    );
    node.stop();
}
