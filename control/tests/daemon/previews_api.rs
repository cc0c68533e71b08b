//! Previews and routes over the real API: what is refused and how, what is shown, and where it says things can be reached.

use crate::node::{Node, eventually, refusal, web};
use futures_util::StreamExt;
use miren_api::deploy::OutputLine;
use miren_api::ephemeral::{Ephemeral, EphemeralDeployed, EphemeralRequest, ExtendRequest};
use miren_api::resource::{App, Maintenance, Route, RouteRequest, RouteTimeout, Version, VersionStatus};
use miren_api::{ClientError, ErrorCode};
use serde_json::json;

const PREVIEWS: &str = "/v1/apps/shop/ephemeral";

async fn request(node: &Node, label: &str, command: &str) -> EphemeralRequest {
    EphemeralRequest {
        label: label.into(),
        artifact: Some(node.upload(&web(command)).await.digest),
        ..EphemeralRequest::default()
    }
}

async fn preview(node: &Node, label: &str, command: &str) -> EphemeralDeployed {
    let request = request(node, label, command).await;
    node.client.post(PREVIEWS, &request).await.unwrap()
}

#[tokio::test]
async fn e5_labels_are_normalised_and_what_is_none_is_refused_before_anything_is_made() {
    let node = Node::start().await;
    let long = "a".repeat(64);
    let strange = [
        "",
        &long,
        "-pr1",
        "pr1-",
        "a.b",
        "größe",
        "*",
        "'; DROP TABLE records; --",
        "$(reboot)",
        "a\u{0}b",
    ];
    for label in strange {
        let refused = refusal(
            node.client
                .post::<EphemeralDeployed>(PREVIEWS, &request(&node, label, "./one").await)
                .await,
        );
        assert_eq!(
            (refused.code, refused.field.as_deref()),
            (ErrorCode::InvalidValue, Some("label")),
            "{label:?}"
        );
        assert!(!refused.message.is_empty() && !refused.remedy.is_empty(), "{label:?}");
    }
    assert_eq!(
        refusal(node.client.get::<App>("/v1/apps/shop").await).code,
        ErrorCode::NotFound,
        "no app was made"
    );
    let made = preview(&node, "feature/My_Branch", "./one").await;
    assert_eq!(made.ephemeral.label.as_str(), "feature-my-branch");
    let shown: Ephemeral = node.client.get(&format!("{PREVIEWS}/FEATURE-my-branch")).await.unwrap();
    assert_eq!(shown, made.ephemeral);
}

#[tokio::test]
async fn e5_a_life_that_is_none_is_refused_before_anything_is_made() {
    let node = Node::start().await;
    for ttl in ["0", "0s", "-1h", "1ns", "10 years", "soon", ""] {
        let request = EphemeralRequest {
            ttl: Some(ttl.into()),
            ..request(&node, "pr1", "./one").await
        };
        let refused = refusal(node.client.post::<EphemeralDeployed>(PREVIEWS, &request).await);
        assert_eq!(
            (refused.code, refused.field.as_deref()),
            (ErrorCode::InvalidValue, Some("ttl")),
            "{ttl:?}"
        );
        assert!(!refused.remedy.is_empty(), "{ttl:?}");
    }
    let number = node
        .client
        .post::<EphemeralDeployed>(PREVIEWS, &json!({"label": "pr1", "ttl": 5}))
        .await;
    assert_eq!(refusal(number).field.as_deref(), Some("ttl"));
    assert_eq!(
        refusal(node.client.get::<App>("/v1/apps/shop").await).code,
        ErrorCode::NotFound
    );
    preview(&node, "pr1", "./one").await;
    for (ttl, code) in [
        ("soon", ErrorCode::InvalidValue),
        ("10 years", ErrorCode::InvalidValue),
        ("1h", ErrorCode::Conflict),
    ] {
        let extend = ExtendRequest { ttl: ttl.into() };
        let refused = refusal(
            node.client
                .post::<Ephemeral>(&format!("{PREVIEWS}/pr1/extend"), &extend)
                .await,
        );
        assert_eq!((refused.code, refused.field.as_deref()), (code, Some("ttl")), "{ttl:?}");
    }
    let extend = ExtendRequest { ttl: "48h".into() };
    let extended: Ephemeral = node
        .client
        .post(&format!("{PREVIEWS}/pr1/extend"), &extend)
        .await
        .unwrap();
    let left = extended.expires_at.duration_since(jiff::Timestamp::now()).as_hours();
    assert_eq!(left, 47);
}

#[tokio::test]
async fn e12_e13_versions_and_urls_are_told_as_they_are() {
    let node = Node::start().await;
    let first = node.succeed("shop", &web("./one")).await.version.unwrap();
    let active = node.succeed("shop", &web("./two")).await.version.unwrap();
    node.route("Shop.example.com", "shop").await;
    node.route("*.example.com", "shop").await;
    let made = preview(&node, "pr1", "./three").await.ephemeral;
    assert_eq!(made.urls, ["http://pr1.shop.example.com"]);
    let versions: Vec<Version> = node.client.list("/v1/apps/shop/versions").await.unwrap();
    let told = |id| versions.iter().find(|version| version.version == id).unwrap();
    assert_eq!(told(active).status, VersionStatus::Active);
    assert_eq!(told(first).status, VersionStatus::Replaced);
    let ephemeral = told(made.version.clone());
    assert_eq!(
        (ephemeral.status, ephemeral.label.as_deref(), ephemeral.expires_at),
        (VersionStatus::Ephemeral, Some("pr1"), Some(made.expires_at))
    );
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    assert_eq!(app.urls, ["http://shop.example.com"]);
    let listed: Vec<Ephemeral> = node.client.list(PREVIEWS).await.unwrap();
    assert_eq!(listed, [made]);
    let ended: Ephemeral = node.client.delete(&format!("{PREVIEWS}/pr1")).await.unwrap();
    assert_eq!(ended.label.as_str(), "pr1");
    let again = node.client.delete::<Ephemeral>(&format!("{PREVIEWS}/pr1")).await;
    assert_eq!(refusal(again).code, ErrorCode::NotFound);
    eventually("nothing is left of it", async || {
        let versions: Vec<Version> = node.client.list("/v1/apps/shop/versions").await.unwrap();
        if versions.len() == 2 {
            Ok(())
        } else {
            Err(format!("{versions:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn the_same_key_is_the_same_preview_and_its_progress_can_be_followed() {
    let node = Node::start().await;
    let request = request(&node, "pr1", "./one").await;
    let mut progress = Box::pin(node.client.events("/v1/progress/key-1", None).await.unwrap());
    let made = node.client.preview("shop", &request, "key-1").await.unwrap();
    assert_eq!(node.client.preview("shop", &request, "key-1").await.unwrap(), made);
    let other = EphemeralRequest {
        label: "pr2".into(),
        ..request
    };
    let refused = refusal(node.client.preview("shop", &other, "key-1").await);
    assert_eq!(refused.code, ErrorCode::Conflict);
    let mut told = Vec::new();
    while let Some(event) = progress.next().await {
        let line: OutputLine = serde_json::from_str(&event.unwrap().data).unwrap();
        told.push(line.text);
    }
    assert!(told[0].contains(made.ephemeral.version.as_str()), "{told:?}");
    assert!(told.last().unwrap().starts_with("published"), "{told:?}");
}

#[tokio::test]
async fn the_first_app_of_a_machine_is_the_default_and_says_so_and_no_other_is() {
    let node = Node::start().await;
    let first = node.succeed("shop", &web("./one")).await;
    assert!(first.default_route);
    let said = first
        .steps
        .iter()
        .any(|step| step.message.contains("shop is the default route"));
    assert!(said, "{:?}", first.steps);
    let blog = node.succeed("blog", &web("./blog")).await;
    assert!(!blog.default_route);
    let again = node.succeed("shop", &web("./two")).await;
    let said = again.steps.iter().any(|step| step.message.contains("default route"));
    assert!(again.default_route && !said, "it is no news: {:?}", again.steps);
    let routes: Vec<Route> = node.client.list("/v1/routes").await.unwrap();
    assert_eq!(
        routes.iter().map(|route| route.app.as_str()).collect::<Vec<_>>(),
        ["shop"]
    );
    let request = RouteRequest {
        app: "blog".into(),
        service: None,
    };
    let before = node.control.world.routing.now().generation;
    node.client.put::<Route>("/v1/default-route", &request).await.unwrap();
    let after = node.control.world.routing.now();
    assert_eq!(
        after.generation,
        before + 1,
        "one step: there is no instant without a default"
    );
    node.client.delete::<Route>("/v1/default-route").await.unwrap();
    node.succeed("third", &web("./third")).await;
    let routes: Vec<Route> = node.client.list("/v1/routes").await.unwrap();
    assert!(routes.is_empty(), "it was taken away on purpose: {routes:?}");
}

#[tokio::test]
async fn routes_are_found_in_any_spelling_and_there_is_one_for_each_host() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    node.succeed("blog", &web("./blog")).await;
    assert_eq!(node.route("Foo.com", "shop").await.host, "foo.com");
    assert_eq!(node.route("foo.COM.", "blog").await.host, "foo.com");
    assert_eq!(
        node.route("b%C3%BCcher.example", "blog").await.host,
        "xn--bcher-kva.example"
    );
    let routes: Vec<Route> = node.client.list("/v1/routes").await.unwrap();
    let hosts: Vec<_> = routes.iter().map(|route| route.host.as_str()).collect();
    assert_eq!(hosts, ["(default)", "foo.com", "xn--bcher-kva.example"]);
    assert_eq!(routes[1].app.as_str(), "blog");
    let shown: Route = node.client.get("/v1/routes/FOO.com").await.unwrap();
    assert_eq!(shown, routes[1]);
    let request = RouteRequest {
        app: "shop".into(),
        service: Some("nothing".into()),
    };
    let refused = refusal(node.client.put::<Route>("/v1/routes/foo.com", &request).await);
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::InvalidValue, Some("service"))
    );
    assert!(refused.message.contains("it has web"), "{refused}");
}

#[tokio::test]
async fn a_route_that_is_down_stays_so_until_it_is_up_wherever_it_leads() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    node.succeed("blog", &web("./blog")).await;
    node.route("foo.com", "shop").await;
    let down: Route = node
        .client
        .put("/v1/routes/Foo.com/maintenance", &json!({"retry_after": 120}))
        .await
        .unwrap();
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    assert_eq!(app.routes_down, ["foo.com"]);
    assert_eq!(app.routes, ["(default)", "foo.com"]);
    assert_eq!(down.maintenance, Some(Maintenance { retry_after: 120 }));
    let limit = RouteTimeout { timeout: "5s".into() };
    let limited: Route = node.client.put("/v1/routes/foo.com/timeout", &limit).await.unwrap();
    assert_eq!(
        (limited.timeout_ms, limited.maintenance),
        (Some(5_000), down.maintenance)
    );
    let moved = node.route("foo.com", "blog").await;
    assert_eq!((moved.timeout_ms, moved.maintenance), (Some(5_000), down.maintenance));
    for _ in 0..2 {
        let up: Route = node.client.delete("/v1/routes/foo.com/maintenance").await.unwrap();
        assert_eq!(up.maintenance, None, "as often as one likes");
    }
    let cleared: Route = node.client.delete("/v1/routes/foo.com/timeout").await.unwrap();
    assert_eq!(cleared.timeout_ms, None);
    let default: Route = node
        .client
        .put("/v1/routes/(default)/maintenance", &json!({}))
        .await
        .unwrap();
    assert_eq!(
        (default.default, default.maintenance),
        (true, Some(Maintenance::default()))
    );
    for (path, body, field) in [
        ("foo.com/maintenance", json!({"retry_after": 0}), "retry_after"),
        ("foo.com/maintenance", json!({"retry_after": 90_000}), "retry_after"),
        ("foo.com/timeout", json!({"timeout": "0s"}), "timeout"),
        ("foo.com/timeout", json!({"timeout": "2h"}), "timeout"),
        ("foo.com/timeout", json!({"timeout": "soon"}), "timeout"),
    ] {
        let answer: Result<Route, ClientError> = node.client.put(&format!("/v1/routes/{path}"), &body).await;
        assert_eq!(refusal(answer).field.as_deref(), Some(field), "{path} {body}");
    }
    let unknown = node
        .client
        .put::<Route>("/v1/routes/bar.com/maintenance", &json!({}))
        .await;
    assert_eq!(refusal(unknown).code, ErrorCode::NotFound);
}
