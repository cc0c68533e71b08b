//! Mistakes of users: each is answered clearly, and another app keeps serving meanwhile.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use miren_api::resource::SandboxState;
use miren_bench::load::{Load, Options};
use miren_blackbox::{AppFolder, Binaries, Cli, Node, NodeOptions, Output};

const HOST: &str = "steady.example.com";

/// A node whose other app serves under load while mistakes are made; that load must not fail.
struct Steady {
    node: Node,
    load: Load,
}

impl Steady {
    fn start() -> Self {
        let node = Node::start();
        node.deploy_at(&AppFolder::rust("steady").fixed(1), HOST);
        let mut options = Options::get(&format!("http://{}/info", node.http), 100.0).unwrap();
        options.host = Some(HOST.to_owned());
        Self {
            load: Load::start(options).unwrap(),
            node,
        }
    }

    /// Deploys what cannot work; returns what was said, which must have all of `words`.
    #[track_caller]
    fn refused(&self, folder: &Path, words: &[&str]) -> Output {
        let output = self.node.cli.deploy(folder);
        assert_ne!(output.code, 0, "{output}");
        for word in words {
            assert!(output.text().contains(word), "{word:?} is not said in\n{output}");
        }
        output
    }

    /// A failed boot leaves nothing that runs or stays PENDING (B2), and its reason is kept: it begins with the step.
    #[track_caller]
    fn failed_to_boot(&self, app: &AppFolder, step: &str, words: &[&str]) {
        let said = self.refused(app.path(), words);
        assert!(said.field("/error").contains(step), "{step:?} is not said in\n{said}");
        let sandboxes = self.node.sandboxes(&app.name);
        assert!(!sandboxes.is_empty(), "a boot was tried");
        for sandbox in sandboxes {
            assert_eq!(sandbox.state, SandboxState::Dead, "{sandbox:?}");
            assert!(
                sandbox.reason.as_ref().is_some_and(|reason| reason.starts_with(step)),
                "{sandbox:?}"
            );
        }
    }

    fn finish(self) {
        let report = self.load.stop().unwrap();
        assert_eq!(report.failed, 0, "{report}");
        assert!(report.requests > 0);
        self.node.stop();
    }
}

#[test]
fn b1_folders_that_say_nothing_useful_are_refused_before_anything_is_created() {
    let steady = Steady::start();
    let unknown = AppFolder::rust("wrong").and("comand = \"x\"");
    let said = steady.refused(unknown.path(), &["app.toml", "comand", "did you mean", "command"]);
    assert!(said.text().contains(":4"), "the line is named in\n{said}");
    let empty = AppFolder::empty("wrong").app_toml("name = \"wrong\"\n");
    steady.refused(empty.path(), &["no command"]);
    let bare = AppFolder::empty("wrong").app_toml("name = \"wrong\"\n[services.web]\nport = 3000\n");
    steady.refused(bare.path(), &["no command"]);
    steady.refused(Path::new("/nonexistent/folder"), &["/nonexistent/folder"]);
    let apps = steady.node.cli.call_json(&["app", "list"]);
    assert!(!apps.stdout.contains("wrong"), "{apps}");
    steady.finish();
}

#[test]
fn b1_settings_are_checked_without_a_server() {
    let cli = Cli::new(Binaries::find(), "unix:/nonexistent/control.sock".to_owned());
    let app = AppFolder::empty("shop").command("./serve").and("size = 20\nport = 0");
    let dir = app.path().to_string_lossy().into_owned();
    let check = ["app", "validate", "-d", &dir];
    for output in [cli.call(&check), cli.call_json(&check)] {
        assert_eq!(output.code, 1, "{output}");
        for word in [":4: services.web.size: unknown key", ":5: services.web.port: is 0"] {
            assert!(output.text().contains(word), "{word:?} is not said in\n{output}");
        }
        assert!(!output.text().contains("/nonexistent/control.sock"), "{output}");
    }
    let output = cli.call_json(&check);
    assert_eq!(output.field("/error/code"), "invalid_config");
    assert_eq!(output.field("/problems/0/line"), "4");
    assert_eq!(output.field("/problems/0/key"), "services.web.size");
    let app = app.command("./serve");
    assert_eq!(cli.call_json(&check).field("/services/0/command"), "./serve");
    // The same server is missed as soon as it is needed.
    assert_eq!(cli.deploy(app.path()).code, 5);
}

#[test]
fn b2_apps_that_do_not_start_fail_their_deploy_with_the_reason() {
    let steady = Steady::start();
    let absent = AppFolder::empty("absent")
        .command("./no-such-program --at all")
        .fixed(1);
    steady.failed_to_boot(&absent, "create: ", &["no-such-program"]);
    let exits = AppFolder::rust("exits").fixed(1).env("EXIT_AT_START", "1");
    steady.failed_to_boot(&exits, "port: ", &["EXIT_AT_START is set", "1"]);
    let silent = AppFolder::rust("silent")
        .and("port_timeout = \"2s\"")
        .fixed(1)
        .env("NEVER_LISTEN", "1");
    steady.failed_to_boot(&silent, "port: ", &["3000", "2s"]);
    steady.finish();
}

#[test]
fn b2_a_broken_redeploy_leaves_the_version_before_it_serving() {
    let steady = Steady::start();
    let before = steady.node.running("steady");
    let broken = AppFolder::rust("steady").fixed(1).env("EXIT_AT_START", "1");
    steady.refused(broken.path(), &["EXIT_AT_START is set"]);
    let after = steady.node.running("steady");
    assert_eq!(before[0].id, after[0].id);
    steady.finish();
}

#[test]
fn routes_with_bad_hosts_are_refused() {
    let steady = Steady::start();
    for host in [
        "under_score.example.com",
        "a..b",
        "-a.example.com",
        "a.*.com",
        "host:80",
        &"x".repeat(64),
    ] {
        // After `--`, so that a host is never taken for an option.
        let output = steady.node.cli.call_json(&["route", "set", "--", host, "steady"]);
        assert_ne!(output.code, 0, "{output}");
        assert!(output.text().contains(host), "{output}");
    }
    let output = steady
        .node
        .cli
        .call_json(&["route", "set", "fine.example.com", "nobody"]);
    assert_eq!(output.code, 3, "{output}");
    assert_eq!(output.field("/error/code"), "not_found");
    steady.finish();
}

#[test]
fn b1_unknown_keys_in_the_daemons_files_are_refused_with_file_line_and_key() {
    let binaries = Binaries::find();
    let folder = tempfile::tempdir().unwrap();
    for (daemon, text) in [
        (
            "miren-control",
            "name = \"x\"\n[drain]\nrequest_timout = \"30s\"\n[network]\nsubnet = 5\n",
        ),
        (
            "miren-proxy",
            "data_dir = \"/x\"\n[timeouts]\nheadr = \"10s\"\n[limits]\nheader_bytes = \"many\"\n",
        ),
    ] {
        let file = folder.path().join(format!("{daemon}.toml"));
        fs::write(&file, text).unwrap();
        let path = file.to_string_lossy();
        let output = Output::of(binaries.command(daemon).args(["config", "check", "--config", &path]));
        assert_eq!(output.code, 1, "{output}");
        for place in [format!("{path}:3"), format!("{path}:5"), "did you mean".to_owned()] {
            assert!(output.text().contains(&place), "{place:?} is not said in\n{output}");
        }
        fs::write(&file, "").unwrap();
        let output = Output::of(binaries.command(daemon).args(["config", "check", "--config", &path]));
        assert_eq!(output.code, 0, "{output}");
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let options = NodeOptions::unique().http(&address);
    let output = Output::of(&mut options.command(&Binaries::find()));
    assert_eq!(output.code, 1, "{output}");
    assert!(output.text().contains(&address), "{output}");
    assert_eq!(options.leftovers(), [].into());
}
