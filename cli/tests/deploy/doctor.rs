//! `miren doctor` and `miren schema`: what they say where no server runs.

use super::server::miren;
use miren_cli::options::Format;
use serde_json::Value;
use std::path::Path;

#[tokio::test]
async fn g18_without_a_server_the_machine_is_looked_at_and_the_server_is_missed() {
    let nowhere = Path::new("/nowhere/control.sock");
    let outcome = miren("doctor --config /nowhere/control.toml", nowhere, Format::Json).await;
    let document = outcome.document();
    let checks = document["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected = [
        "kernel",
        "bpf",
        "cgroup",
        "ports",
        "disk",
        "conntrack",
        "clock",
        "containerd",
        "builder",
        "control",
        "proxy",
    ];
    assert_eq!(names, expected);
    for check in checks {
        let text = |key: &str| check[key].as_str().unwrap();
        assert_ne!(text("detail"), "", "{check}");
        assert!(
            check["ok"] == Value::Bool(true) || !text("remedy").is_empty(),
            "{check}"
        );
    }
    assert_eq!(checks[9]["ok"], false, "{document}");
    assert_eq!((outcome.exit, &document["ok"]), (1, &Value::Bool(false)));

    let machine = miren("doctor --machine --config /nowhere/control.toml", nowhere, Format::Json).await;
    let document = machine.document();
    assert_eq!(document["checks"].as_array().unwrap().len(), 9);
    assert_eq!(
        machine.exit,
        u8::from(document["ok"] == Value::Bool(false)),
        "{document}"
    );
    let told = miren("doctor --config /nowhere/control.toml", nowhere, Format::Table).await;
    assert!(told.out.starts_with("This machine\n"), "{}", told.out);
    assert!(
        told.out
            .contains("\nThe server at unix:/nowhere/control.sock\n  WRONG  control"),
        "{}",
        told.out
    );
}

#[tokio::test]
async fn g18_the_schemas_are_printed_without_a_server() {
    let nowhere = Path::new("/nowhere/control.sock");
    for (file, title) in [
        ("app", "app.toml"),
        ("control", "control.toml"),
        ("proxy", "proxy.toml"),
    ] {
        let outcome = miren(&format!("schema {file}"), nowhere, Format::Table).await;
        let document = outcome.document();
        assert_eq!((outcome.exit, &document["title"]), (0, &Value::from(title)));
        assert_eq!(document["additionalProperties"], false, "{file}");
    }
}
