//! `miren app validate`: no server is there to be asked, and everything that is wrong is told at once.

use super::server::{Outcome, miren};
use miren_cli::options::Format;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const WRONG: &str = "nmae = \"shop\"\n[services.web]\ncommand = \"./serve\"\nhealth = { pth = \"/\" }\nport = 70000\n";

fn folder(app_toml: &str, procfile: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".miren")).unwrap();
    fs::write(dir.path().join(".miren/app.toml"), app_toml).unwrap();
    fs::write(dir.path().join("Procfile"), procfile).unwrap();
    dir
}

async fn validate(dir: &Path, format: Format) -> Outcome {
    let line = format!("app validate -d {}", dir.display());
    miren(&line, Path::new("/nowhere/control.sock"), format).await
}

#[tokio::test]
async fn b1_what_would_run_is_a_table_with_one_row_for_each_service() {
    let dir = folder(
        "name = \"shop\"\n[services.web]\ncommand = \"./serve\"\nhealth.path = \"/ok\"\nresources = { memory = \"64MiB\", cpu = 0.5 }\n\
         [[services.web.env]]\nkey = \"A\"\nvalue = \"secret\"\n",
        "worker: ./work\n",
    );
    let outcome = validate(dir.path(), Format::Table).await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    let rows: Vec<Vec<&str>> = outcome.out.lines().map(|line| line.split("  ").collect()).collect();
    let cells = |row: usize| -> Vec<&str> {
        rows[row]
            .iter()
            .map(|cell| cell.trim())
            .filter(|cell| !cell.is_empty())
            .collect()
    };
    assert_eq!(
        cells(0),
        [
            "SERVICE",
            "COMMAND",
            "PORT",
            "INSTANCES",
            "HEALTH",
            "RESOURCES",
            "VARIABLES",
            "DISKS"
        ]
    );
    assert_eq!(
        cells(1),
        [
            "web",
            "./serve",
            "3000",
            "0 to 20, 10 requests each",
            "/ok",
            "64MiB, 0.5 cpu",
            "1",
            "0"
        ]
    );
    assert_eq!(cells(2), ["worker", "./work", "-", "1", "-", "-", "0", "0"]);
    assert_eq!(rows.len(), 3);
    assert!(
        outcome.err.starts_with("The settings of app shop in "),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn b1_what_would_run_is_a_document_without_values_of_variables() {
    let dir = folder("[[env]]\nkey = \"TOKEN\"\nvalue = \"secret\"\n", "worker: ./work\n");
    let outcome = validate(dir.path(), Format::Json).await;
    assert_eq!((outcome.exit, outcome.err.as_str()), (0, ""));
    let document: Value = serde_json::from_str(&outcome.out).unwrap();
    let worker = json!({
        "name": "worker", "command": "./work", "port": null, "port_timeout": "15s", "shutdown_timeout": "10s",
        "drain_timeout": "30s", "tunnel_timeout": "30s", "health_path": null, "read_only_root": false, "init": true, "hedge": true, "concurrency": {"mode": "fixed", "num_instances": 1},
        "resources": {"memory": null, "cpu": null, "pids": null}, "env": ["TOKEN"], "disks": [],
    });
    assert_eq!(
        document,
        json!({"valid": true, "app": null, "dockerfile": null, "base": "host", "include": [], "services": [worker]})
    );
}

#[tokio::test]
async fn b1_all_problems_of_both_files_are_told_at_once_with_their_places() {
    let dir = folder(WRONG, "worker: ./work\nnonsense\n");
    let outcome = validate(dir.path(), Format::Table).await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (1, ""));
    for line in [
        "Procfile:2: \"nonsense\" is not \"name: command\"",
        ".miren/app.toml:1: nmae: unknown key \"nmae\"; did you mean \"name\"?",
        ".miren/app.toml:4: services.web.health.pth: unknown key \"pth\"; did you mean \"path\"?",
        ".miren/app.toml:5: services.web.port: is 70000, outside 1 to 65535",
    ] {
        assert!(outcome.err.contains(line), "{line:?} is not said in\n{}", outcome.err);
    }
}

#[tokio::test]
async fn b1_problems_are_documents_too_and_a_deploy_tells_the_same() {
    let dir = folder(WRONG, "");
    let outcome = validate(dir.path(), Format::Json).await;
    assert_eq!((outcome.exit, outcome.err.as_str()), (1, ""));
    let document: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(document["error"]["code"], "invalid_config");
    assert_ne!(document["error"]["remedy"], "");
    let problem = |line: u64, column: u64, key: &str, message: &str| json!({"file": ".miren/app.toml", "line": line, "column": column, "key": key, "message": message});
    assert_eq!(
        document["problems"],
        json!([
            problem(1, 1, "nmae", "unknown key \"nmae\"; did you mean \"name\"?"),
            problem(
                4,
                12,
                "services.web.health.pth",
                "unknown key \"pth\"; did you mean \"path\"?"
            ),
            problem(5, 8, "services.web.port", "is 70000, outside 1 to 65535"),
        ])
    );
    let line = format!("deploy -d {}", dir.path().display());
    let deploy = miren(&line, Path::new("/nowhere/control.sock"), Format::Json).await;
    assert_eq!((deploy.exit, &deploy.out), (outcome.exit, &outcome.out));
}

#[tokio::test]
async fn b1_files_that_cannot_be_settings_are_named() {
    let dir = folder("", "web: x\n");
    let cases: [(&[u8], &str); 2] = [
        (
            &[b'#'; (256 << 10) + 1],
            ".miren/app.toml: has 262145 bytes, more than the 262144 that are read",
        ),
        (b"name = \"shop\"\n# \xff\n", ".miren/app.toml:2: is not UTF-8 text"),
    ];
    for (bytes, said) in cases {
        fs::write(dir.path().join(".miren/app.toml"), bytes).unwrap();
        let outcome = validate(dir.path(), Format::Table).await;
        assert!(outcome.exit == 1 && outcome.err.contains(said), "{}", outcome.err);
    }
    fs::write(dir.path().join(".miren/app.toml"), "include = [\"[a\"]\n").unwrap();
    let outcome = validate(dir.path(), Format::Table).await;
    assert!(
        outcome.exit == 1 && outcome.err.contains("include pattern \"[a\""),
        "{}",
        outcome.err
    );
    let outcome = validate(Path::new("/nowhere/at/all"), Format::Table).await;
    assert_eq!(outcome.exit, 2, "{}", outcome.err);
}
