//! Variables that an app requires: a deploy without them ends before anything is sent, and says what to do.

use super::server::{Fake, app, fake, miren, serve};
use miren_cli::options::Format;
use serde_json::json;

const NEEDY: &str = "name = \"shop\"\n[services.web]\ncommand = \"./serve\"\n[[env]]\nkey = \"DATABASE_URL\"\nrequired = true\n\
                     [[services.worker.env]]\nkey = \"SMTP\"\nrequired = true\n[services.worker]\ncommand = \"./work\"\n";

#[tokio::test]
async fn g18_what_is_required_and_not_set_ends_a_deploy_before_it_sends_anything() {
    let dir = app();
    std::fs::write(dir.path().join(".miren/app.toml"), NEEDY).unwrap();
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    let set = json!([{"name": "SMTP", "value": "mail", "service": "worker", "source": "manual"}]);
    let fake = Fake {
        variables: set,
        ..fake("SUCCEEDED")
    };
    serve(fake.clone(), &socket);
    let line = format!("deploy -d {}", dir.path().display());
    for line in [
        line.clone(),
        format!("{line} --ephemeral pr1"),
        format!("{line} -e DATABASE_URL="),
    ] {
        let outcome = miren(&line, &socket, Format::Json).await;
        let error = &outcome.document()["error"];
        assert_eq!(
            (outcome.exit, &error["code"], &error["field"]),
            (1, &json!("invalid_value"), &json!("env"))
        );
        let message = "deploying shop: .miren/app.toml requires what is not set: DATABASE_URL";
        assert_eq!(error["message"], message, "{line}");
        let remedy = error["remedy"].as_str().unwrap();
        assert!(
            remedy.starts_with("miren env set -a shop DATABASE_URL=VALUE; or "),
            "{remedy}"
        );
        assert_eq!(fake.seen.lock().unwrap().uploads, 0, "{line}");
    }
    let outcome = miren(&format!("{line} -e DATABASE_URL=db"), &socket, Format::Json).await;
    assert_eq!(outcome.exit, 0, "{} {}", outcome.out, outcome.err);
}

#[tokio::test]
async fn g18_what_the_server_does_not_tell_is_left_to_it() {
    let dir = app();
    std::fs::write(dir.path().join(".miren/app.toml"), NEEDY).unwrap();
    let nowhere = dir.path().join("nowhere.sock");
    let outcome = miren(&format!("deploy -d {}", dir.path().display()), &nowhere, Format::Json).await;
    assert_eq!(
        (outcome.exit, &outcome.document()["error"]["code"]),
        (5, &json!("unreachable"))
    );
}
