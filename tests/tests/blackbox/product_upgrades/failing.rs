//! Builds that do not serve: each is refused, or taken back, and nobody has noticed.

use std::fs;
use std::path::Path;

use miren_blackbox::{Build, Output};

use super::Product;

/// A build that fails, with what is said then.
struct Failing {
    what: &'static str,
    build: Build,
    arguments: &'static [&'static str],
    says: &'static [&'static str],
}

fn failing(what: &'static str, build: Build, says: &'static [&'static str]) -> Failing {
    Failing {
        what,
        build,
        arguments: &[],
        says,
    }
}

/// Fails every way that a build can, one after the other.
fn fails(product: &Product, all: Vec<Failing>) {
    for Failing {
        what,
        build,
        arguments,
        says,
    } in all
    {
        let before = product.running();
        let output = product.upgrade(&build, arguments);
        assert_eq!(output.code, 1, "{what}: {output}");
        let text = output.text();
        let missing: Vec<&&str> = says.iter().filter(|part| !text.contains(**part)).collect();
        assert!(missing.is_empty(), "{what}: no {missing:?} in {output}");
        assert_eq!(product.running(), before, "{what}: {output}");
        product.is_whole(what);
    }
}

#[test]
fn a_build_whose_control_does_not_serve_changes_nothing() {
    let product = Product::start();
    let dies = Build::marked("dies").serves_instead("miren-control", "echo 'no, not today' >&2\nexit 1");
    let hangs = Build::marked("hangs");
    let line = hangs.hanging();
    let hangs = hangs.serves_instead("miren-control", &line);
    // What a control has written that was never ready comes back, too.
    let store = product.node.folder().join("data/control.db");
    let spoils = format!("echo spoilt > {}\nexit 1", store.display());
    let spoils = Build::marked("spoils").serves_instead("miren-control", &spoils);
    fails(
        &product,
        vec![
            failing(
                "one that ends",
                dies,
                &["step \\\"control\\\"", "no, not today", "as before"],
            ),
            Failing {
                arguments: &["--timeout", "3s"],
                ..failing(
                    "one that hangs",
                    hangs,
                    &["step \\\"control\\\"", "not ready within 3s"],
                )
            },
            failing(
                "one that spoils the store",
                spoils,
                &["step \\\"control\\\"", "as before"],
            ),
        ],
    );
    // Nothing of all that is in the way of a good one.
    let output = product.upgrade(&Build::marked("good"), &[]);
    assert_eq!(output.code, 0, "{output}");
    product.is_whole("a good one");
    product.stop();
}

#[test]
fn a_build_whose_proxy_does_not_serve_changes_nothing() {
    let product = Product::start();
    let dies = Build::marked("dies").serves_instead("miren-proxy", "echo 'no, not today' >&2\nkill -ABRT $$");
    let hangs = Build::marked("hangs");
    let line = hangs.hanging();
    let hangs = hangs.serves_instead("miren-proxy", &line);
    fails(
        &product,
        vec![
            failing(
                "one that dies",
                dies,
                &["step \\\"proxy\\\"", "no, not today", "as before"],
            ),
            Failing {
                // Control has to be ready within that, too.
                arguments: &["--timeout", "30s"],
                ..failing(
                    "one that hangs",
                    hangs,
                    &["step \\\"proxy\\\"", "not ready after 30s", "as before"],
                )
            },
        ],
    );
    let output = product.upgrade(&Build::marked("good"), &[]);
    assert_eq!(output.code, 0, "{output}");
    product.is_whole("a good one");
    product.stop();
}

/// Changes the number of the schema of a store that is in use.
#[track_caller]
fn set_schema(store: &Path, schema: u32) {
    let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute('PRAGMA user_version = ' + sys.argv[2])";
    let mut command = std::process::Command::new("python3");
    let output = Output::of(command.args(["-c", script]).arg(store).arg(schema.to_string()));
    assert_eq!(output.code, 0, "{output}");
}

#[test]
fn a_build_that_cannot_go_on_here_is_refused_before_anything_is_touched() {
    let product = Product::start();
    let folder = product.node.folder().to_owned();
    let incomplete = Build::marked("incomplete");
    fs::remove_file(incomplete.path("miren-proxy")).expect("removing a program");
    let mixture = Build::marked("mixture");
    mixture.put("miren-proxy", "#!/bin/sh\necho miren-proxy 99.0.0\n");
    let older = Build::marked("older").serves_instead("miren", "exit 1");
    older.put(
        "miren-control",
        "#!/bin/sh\ncase \" $* \" in *' --version '*) echo miren-control 0.1.0;; *' facts '*) echo \"error: unrecognized subcommand 'facts'\" >&2; exit 2;; esac\n",
    );
    let plain = Build::marked("no program");
    fs::set_permissions(plain.path("miren"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("a mode");
    fails(
        &product,
        vec![
            failing("one without a proxy", incomplete, &["miren-proxy", "No such file"]),
            failing(
                "one of two releases",
                mixture,
                &["several releases", "miren-proxy 99.0.0"],
            ),
            failing(
                "one that cannot be asked",
                older,
                &["unrecognized subcommand", "this one is older"],
            ),
            failing("one that is no program", plain, &["is no program"]),
        ],
    );
    // Settings that this build does not take, of either daemon.
    for name in ["control.toml", "proxy.toml"] {
        let path = folder.join(name);
        let before = fs::read_to_string(&path).expect("reading settings");
        fs::write(&path, format!("unknown_key = 1\n{before}")).expect("writing settings");
        fails(&product, vec![failing(name, Build::marked(name), &["unknown_key"])]);
        fs::write(&path, before).expect("writing settings");
    }
    // A store that a newer release has made.
    let store = folder.join("data/control.db");
    let schema = |number| set_schema(&store, number);
    let output = product.upgrade(&Build::marked("dry"), &["--dry-run"]);
    assert_eq!(output.code, 0, "{output}");
    schema(99);
    let refused = failing("an older build", Build::marked("older"), &["has schema 99"]);
    fails(&product, vec![refused]);
    schema(4);
    product.is_whole("nothing was touched");
    product.stop();
}
