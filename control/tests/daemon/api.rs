//! How the API refuses, lists and describes itself.

use crate::node::{Node, fixed, refusal, web};
use futures_util::StreamExt;
use miren_api::ErrorCode;
use miren_api::deploy::Deploy;
use miren_api::resource::{App, FastPathStatus, LogLine, Pool, Route, RouteRequest, ServerVersion};
use miren_api::routing::RoutingSnapshot;
use serde_json::{Value, json};
use std::io::Read as _;
use std::pin::pin;

#[tokio::test]
async fn b1_unknown_fields_and_wrong_types_are_refused_and_named() {
    let node = Node::start().await;
    let artifact = node.upload(&web("./one")).await.digest;
    let path = "/v1/apps/shop/deploys";
    let typo = json!({ "artifact": artifact, "enviroment": {} });
    let error = refusal(node.client.post::<Deploy>(path, &typo).await);
    assert_eq!(
        (error.code, error.field.as_deref()),
        (ErrorCode::InvalidRequest, Some("enviroment"))
    );
    let wrong = json!({ "artifact": artifact, "env": { "A": 1 } });
    let error = refusal(node.client.post::<Deploy>(path, &wrong).await);
    assert_eq!(error.field.as_deref(), Some("env.A"));
    let error = refusal(node.client.get::<Value>("/v1/pools?ap=shop").await);
    assert!(error.message.contains("ap"), "{error:?}");
    assert_eq!(
        refusal(node.client.get::<App>("/v1/apps/shop").await).code,
        ErrorCode::NotFound,
        "nothing was made"
    );
}

#[tokio::test]
async fn b1_a_folder_with_a_mistake_is_refused_before_anything_is_made() {
    let node = Node::start().await;
    let artifact = node.upload("[services.web]\ncomand = \"x\"\n").await.digest;
    let request = json!({ "artifact": artifact });
    let error = refusal(node.client.post::<Deploy>("/v1/apps/shop/deploys", &request).await);
    assert_eq!(error.code, ErrorCode::InvalidConfig);
    assert!(error.message.contains("did you mean \"command\"?"), "{error:?}");
    let unknown = json!({ "artifact": format!("sha256:{}", "0".repeat(64)) });
    let error = refusal(node.client.post::<Deploy>("/v1/apps/shop/deploys", &unknown).await);
    assert_eq!(
        (error.code, error.field.as_deref()),
        (ErrorCode::NotFound, Some("artifact"))
    );
    let error = refusal(node.client.post::<Deploy>("/v1/apps/No_Good/deploys", &request).await);
    assert_eq!(error.code, ErrorCode::InvalidValue);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let node = Node::start().await;
    let large = json!({ "artifact": "x".repeat(100 << 10) });
    let error = refusal(node.client.post::<Deploy>("/v1/apps/shop/deploys", &large).await);
    assert_eq!(error.code, ErrorCode::TooLarge);
    let bomb = vec![0_u8; 3 << 20];
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bomb.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "bomb", &*bomb).unwrap();
    let error = refusal(node.client.upload(tar.into_inner().unwrap().into()).await);
    assert_eq!(error.code, ErrorCode::TooLarge);
}

/// It is refused long before its end: at its first entry, or when it is larger than may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whose_folder_is_refused_is_told_why_however_much_is_still_to_come() {
    let node = Node::start().await;
    let mut large = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(64 << 20);
    header.set_mode(0o644);
    large
        .append_data(&mut header, "large", std::io::repeat(7).take(64 << 20))
        .unwrap();
    let large = large.into_inner().unwrap();
    let nonsense = vec![7_u8; 64 << 20];
    for round in 0..5 {
        let refused = refusal(node.client.upload(large.clone().into()).await);
        assert_eq!(refused.code, ErrorCode::TooLarge, "round {round}: {refused:?}");
        let refused = refusal(node.client.upload(nonsense.clone().into()).await);
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "round {round}: {refused:?}");
        let refused = refusal(node.client.upload_image(nonsense.clone().into()).await);
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "round {round}: {refused:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let node = Node::start().await;
    for path in [
        "/v1/apps/none",
        "/v1/deploys/dep-none",
        "/v1/pools/pool-none",
        "/v1/sandboxes/sb-none",
        "/v1/routes/none.test",
        "/v1/logs?app=none",
        "/v1/nothing",
    ] {
        let error = refusal(node.client.get::<Value>(path).await);
        assert_eq!(error.code, ErrorCode::NotFound, "{path}: {error:?}");
        assert!(!error.remedy.is_empty(), "{path}");
    }
    assert_eq!(
        refusal(node.client.delete::<Value>("/v1/version").await).code,
        ErrorCode::InvalidRequest
    );
}

#[tokio::test]
async fn short_ids_find_what_they_mean() {
    let node = Node::start().await;
    let deploy = node.succeed("shop", &fixed("./one", 2)).await;
    let short = &deploy.id.as_str()[..deploy.id.as_str().len() - 2];
    let found: Deploy = node.client.get(&format!("/v1/deploys/{short}")).await.unwrap();
    assert_eq!(found.id, deploy.id);
    let pool: Pool = node.client.get("/v1/pools/pool-").await.unwrap();
    assert_eq!(Some(pool.id), deploy.pool);
    let error = refusal(node.client.get::<Value>("/v1/sandboxes/sb-").await);
    assert_eq!(error.code, ErrorCode::Ambiguous);
    assert!(error.message.contains("2 ids"), "{error:?}");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./one", 5)).await;
    let sandboxes: Vec<Value> = node.client.list("/v1/sandboxes?limit=2").await.unwrap();
    assert_eq!(sandboxes.len(), 5);
    let apps: Vec<App> = node.client.list("/v1/apps").await.unwrap();
    assert_eq!(apps.len(), 1);
}

#[tokio::test]
async fn routes_lead_to_apps_that_exist() {
    let node = Node::start().await;
    let to = |app: &str| RouteRequest {
        app: app.into(),
        service: None,
    };
    let error = refusal(node.client.put::<Route>("/v1/routes/shop.test", &to("shop")).await);
    assert_eq!(error.code, ErrorCode::NotFound);
    node.succeed("shop", &web("./one")).await;
    let route = node.route("Shop.Test.", "shop").await;
    assert_eq!(
        (route.host.as_str(), route.service.as_str(), route.wildcard),
        ("shop.test", "web", false)
    );
    assert!(node.route("*.shop.test", "shop").await.wildcard);
    let default: Route = node.client.put("/v1/default-route", &to("shop")).await.unwrap();
    assert!(default.default);
    assert_eq!(node.client.list::<Route>("/v1/routes").await.unwrap().len(), 3);
    assert_eq!(
        refusal(node.client.put::<Route>("/v1/routes/under_score", &to("shop")).await).code,
        ErrorCode::InvalidValue
    );
    let removed: Route = node.client.delete("/v1/routes/shop.test").await.unwrap();
    assert_eq!(removed.host, "shop.test");
    let _: Route = node.client.delete("/v1/default-route").await.unwrap();
    assert_eq!(
        refusal(node.client.delete::<Route>("/v1/default-route").await).code,
        ErrorCode::NotFound
    );
    let deploy = node.succeed("shop", &web("./two")).await;
    assert!(deploy.urls.is_empty(), "a wildcard is no address: {:?}", deploy.urls);
    node.route("shop.test", "shop").await;
    assert_eq!(node.succeed("shop", &web("./three")).await.urls, ["http://shop.test"]);
}

#[tokio::test]
async fn a_proxy_gets_the_newest_snapshot_at_once() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    for host in ["a.test", "b.test", "c.test"] {
        node.route(host, "shop").await;
    }
    let mut events = pin!(node.client.events("/v1/proxy/stream?proxy=p1", None).await.unwrap());
    assert_eq!(events.next().await.unwrap().unwrap().name, "identity");
    let first = events.next().await.unwrap().unwrap();
    let snapshot: RoutingSnapshot = serde_json::from_str(&first.data).unwrap();
    assert_eq!(
        (first.name.as_str(), first.id.clone()),
        ("snapshot", snapshot.generation.to_string())
    );
    assert_eq!(snapshot.routes.len(), 3);
    let error = refusal(node.client.get::<Value>("/v1/proxy/stream?proxy=not%20plain").await);
    assert_eq!(error.code, ErrorCode::InvalidValue);
}

#[tokio::test]
async fn the_rest_answers_too() {
    let node = Node::start().await;
    let version: ServerVersion = node.client.get("/v1/version").await.unwrap();
    assert_eq!(version.node, "test");
    let status: FastPathStatus = node.client.get("/v1/fastpath").await.unwrap();
    assert_eq!(status.mode, "off");
    node.succeed("shop", &web("./one")).await;
    let sandbox = node.running("shop", 1).await.remove(0);
    let path = format!("/v1/logs?app=shop&sandbox={sandbox}");
    let lines: Vec<_> = node.client.events(&path, None).await.unwrap().collect().await;
    let line: LogLine = serde_json::from_str(&lines[0].as_ref().unwrap().data).unwrap();
    assert_eq!(line.sandbox, sandbox);
    let described: Value = node.client.get("/v1/openapi.json").await.unwrap();
    assert!(described["paths"]["/v1/apps/{app}"]["delete"].is_object());
}

#[tokio::test]
async fn d1_while_stopping_changes_are_refused_and_reads_answered() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    node.control.quiesce();
    let error = refusal(node.client.delete::<App>("/v1/apps/shop").await);
    assert_eq!((error.code, error.retry_after), (ErrorCode::Draining, Some(1)));
    assert!(node.client.get::<App>("/v1/apps/shop").await.is_ok());
}

#[test]
fn the_committed_description_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == miren_control::server::openapi(),
        "docs/openapi.json is stale: cargo run -p miren-control -- openapi > docs/openapi.json"
    );
}
