//! Folders as people have them: with links to anywhere, with rules about what is deployed, with apps that write long lines.

use miren_api::resource::{LinePart, LogLine};
use miren_blackbox::{AppFolder, ContainerImage, Node, NodeOptions, Registry, wait_until};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

const HOST: &str = "shop.example.com";
const SOON: Duration = Duration::from_secs(30);

/// Every file and link of the folder that an app was deployed from, as a sandbox has them.
fn files(node: &Node, script: &str) -> Vec<String> {
    let sandbox = node.running("shop").remove(0);
    let shown = node
        .cli
        .call(&["sandbox", "exec", sandbox.id.as_str(), "--", "/bin/bash", "-c", script]);
    assert_eq!(shown.code, 0, "{shown}");
    shown.stdout.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn g6_a_virtual_environment_is_deployed_and_runs() {
    let node = Node::start();
    let app = AppFolder::python("shop").command(".venv/bin/python3 server.py");
    let at = |path: &str| app.path().join(path);
    for folder in [".venv/bin", ".venv/lib/python3.11/site-packages"] {
        fs::create_dir_all(at(folder)).expect("a folder");
    }
    fs::write(at(".venv/pyvenv.cfg"), "home = /usr/bin\n").expect("a file");
    let links = [
        (".venv/bin/python", "python3"),
        (".venv/bin/python3", "/usr/bin/python3"),
        (".venv/lib64", "lib"),
        ("current", "/nowhere/at/all"),
        ("loop", "loop"),
        ("up", "../.."),
    ];
    for (path, to) in links {
        symlink(to, at(path)).expect("a link");
    }
    // An editor put a mark in front of the first rule.
    fs::write(at(".gitignore"), "\u{feff}secret\r\n").expect("rules");
    fs::write(at("secret"), "secret").expect("a file");
    node.deploy_at(&app, HOST);
    assert_eq!(node.get(HOST, "/info").field("app"), "shop");
    let seen = files(
        &node,
        "find -L /app -name secret; readlink .venv/bin/python3 .venv/lib64 current up",
    );
    assert_eq!(seen, ["/usr/bin/python3", "lib", "/nowhere/at/all", "../.."]);
    // Where a link leads makes a difference.
    fs::remove_file(at("current")).expect("the link");
    symlink("/nowhere/else", at("current")).expect("a link");
    let again = node.cli.deploy(app.path());
    assert_eq!(again.parsed::<serde_json::Value>()["reused"], false, "{again}");
    // What the server reads itself is in the folder, or refused.
    symlink("/etc/hostname", at("Procfile")).expect("a link");
    let refused = node.cli.deploy(app.path());
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stdout.contains("leads out of the folder"), "{refused}");
    node.stop();
}

#[test]
fn g6_a_build_keeps_to_the_rules_of_its_dockerfile() {
    let registry = Registry::start();
    let node = NodeOptions::unique().registry(&registry).start();
    let tools = ContainerImage::of_programs(&["/bin/bash", "/usr/bin/readlink"]);
    let base = registry.push("tools:1", &tools);
    let app = AppFolder::rust("shop")
        .app_toml("name = \"shop\"\n[build]\nbuilder = \"buildah\"\ndockerfile = \"docker/api.Dockerfile\"\n");
    let at = |path: &str| app.path().join(path);
    fs::create_dir(at("docker")).expect("a folder");
    let dockerfile = format!("FROM {base}\nWORKDIR /srv\nCOPY . .\nEXPOSE 8080\nCMD [\"./hello-rust\"]\n");
    fs::write(at("docker/real"), dockerfile).expect("a Dockerfile");
    symlink("real", at("docker/api.Dockerfile")).expect("a link");
    for (path, text) in [
        (".dockerignore", "hello-rust\nkeep.md\n"),
        (
            "docker/api.Dockerfile.dockerignore",
            "\u{feff}hidden\r\n*.md\r\n!keep.md\r\ndocker\r\n.miren\r\n",
        ),
        ("hidden", ""),
        ("a.md", ""),
        ("keep.md", ""),
    ] {
        fs::write(at(path), text).expect("a file");
    }
    symlink("/usr/share/zoneinfo", at("zones")).expect("a link");
    symlink("nowhere", at("dangling")).expect("a link");
    node.deploy_at(&app, HOST);
    let seen = files(&node, "shopt -s dotglob nullglob; echo *; readlink zones dangling");
    let expected = [".dockerignore", "dangling", "hello-rust", "keep.md", "zones"];
    assert_eq!(seen[..5], expected);
    assert_eq!(seen[5..], ["/usr/share/zoneinfo", "nowhere"]);
    node.stop();
}

const SAY: &str = r#"
import json
for kib in 80, 600:
    print(json.dumps({"text": "é" * (kib * 512)}, ensure_ascii=False), flush=True)
"#;

#[test]
fn g7_json_lines_are_whole_and_what_is_longer_says_that_it_is_a_part() {
    let node = Node::start();
    let app = AppFolder::python("shop").command("python3 say.py && exec python3 server.py");
    fs::write(app.path().join("say.py"), SAY).expect("a script");
    node.deploy_at(&app, HOST);
    let logs = |more: &[&str]| {
        let asked = [&["logs", "-a", "shop"], more].concat();
        node.cli.call(&asked).stdout
    };
    let words = wait_until("its lines", SOON, || {
        let words = logs(&[]);
        if words.contains("last part ") {
            Ok(words)
        } else {
            Err(words.len())
        }
    });
    let text = |kib: usize| format!("{{\"text\": \"{}\"}}", "é".repeat(kib * 512));
    for shown in [
        format!("] {}\n", text(80)),
        ", part 1] {\"text\": ".into(),
        ", last part 3] é".into(),
    ] {
        assert!(words.contains(&shown), "{} bytes without {:.80}", words.len(), shown);
    }
    let json = logs(&["--format", "json"]);
    let lines: Vec<LogLine> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect();
    assert!(lines.iter().any(|line| line.line == text(80) && line.part.is_none()));
    let parts: Vec<&LogLine> = lines.iter().filter(|line| line.part.is_some()).collect();
    let numbers: Vec<LinePart> = parts.iter().filter_map(|line| line.part).collect();
    let part = |number, last| LinePart { number, last };
    assert_eq!(numbers, [part(1, false), part(2, false), part(3, true)]);
    let together: String = parts.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(together, text(600));
    node.stop();
}
