//! Labels lead to their own version: it starts with the first request, and when that fails those who wait are told.

use crate::app::App;
use crate::client::{ask, get};
use crate::control::Inner;
use crate::stage::{HOST, Stage, all, becomes, snapshot, with_label};
use crate::waiting::{WAITING, acquiring, ask_often};
use miren_api::routing::{AppRouting, RouteDestination, RoutingSnapshot};
use miren_api::{ApiError, AppName, ErrorCode, VersionId};

const PREVIEW: &str = "shop-pr1";

fn label_of(host: &str) -> String {
    get(&format!("pr1.{host}"), "/")
}

/// The label `pr1` of `shop` leads to [`PREVIEW`], of which nothing runs.
async fn cold_label() -> Stage {
    let stage = Stage::new("").await;
    stage.serve(&with_label(snapshot(2, "shop-v1"), "pr1", PREVIEW)).await;
    stage
}

/// As [`cold_label`]; requests without a route go to `home`, which runs.
async fn beside_a_default(home: &App) -> Stage {
    let stage = cold_label().await;
    stage.serve(&with_default(3, "home")).await;
    stage.grant("home-v1", home, 1_000);
    stage
}

/// As [`snapshot`], with the label, a default route to `app`, and an app `home`.
fn with_default(generation: u64, app: &str) -> RoutingSnapshot {
    let mut snapshot = with_label(snapshot(generation, "shop-v1"), "pr1", PREVIEW);
    let home = AppRouting {
        active: Some(VersionId::from_text("home-v1")),
        ephemeral: Vec::new(),
    };
    snapshot.apps.insert(AppName::from_text("home"), home);
    snapshot.default = Some(RouteDestination::new(AppName::from_text(app), "web"));
    snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_two_hundred_requests_to_a_cold_label_ask_once_and_all_wait_for_it() {
    let stage = cold_label().await;
    let waiting = ask_often(stage.address(), 200, &label_of(HOST));
    stage.metric_becomes(WAITING, 200.0).await;
    becomes("acquires under way", 1, || acquiring(&stage, PREVIEW).0).await;
    let (active, preview) = (App::start("active").await, App::start("preview").await);
    stage.grant("shop-v1", &active, 1_000);
    stage.grant(PREVIEW, &preview, 10);
    for response in all(waiting).await {
        assert_eq!((response.status, response.body.as_str()), (200, "preview"));
    }
    assert_eq!(acquiring(&stage, PREVIEW).1, 1, "most acquires at once");
    assert_eq!(active.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_all_who_wait_for_a_label_see_that_it_did_not_start() {
    let stage = cold_label().await;
    let waiting = ask_often(stage.address(), 200, &label_of(HOST));
    stage.metric_becomes(WAITING, 200.0).await;
    let refusal = ApiError::new(ErrorCode::BootFailed, "it ended").retry_after(7);
    refuse(&stage, PREVIEW, refusal);
    for response in all(waiting).await {
        let retry_after = response.header("retry-after");
        assert_eq!(
            (response.status, response.error(), retry_after),
            (503, "boot_failed", Some("7"))
        );
    }
    assert_eq!(acquiring(&stage, PREVIEW).1, 1, "most acquires at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_a_label_below_the_clusters_own_host_is_the_default_routes() {
    let (home, preview) = (App::start("home").await, App::start("preview").await);
    let stage = beside_a_default(&home).await;
    stage.grant(PREVIEW, &preview, 10);
    let request = label_of("edge.example.net");
    assert_eq!(ask(stage.address(), &request).await.body, "home", "no such host yet");
    let mut routes = with_default(4, "shop");
    routes.cluster_host = Some("edge.example.net".into());
    stage.serve(&routes).await;
    assert_eq!(ask(stage.address(), &request).await.body, "preview");
    let of_app = label_of("shop.edge.example.net");
    assert_eq!(ask(stage.address(), &of_app).await.body, "preview");
}

#[tokio::test(flavor = "multi_thread")]
async fn e3_a_lookup_that_failed_is_a_500_that_says_so_and_never_the_default_app() {
    let (home, preview) = (App::start("home").await, App::start("preview").await);
    let stage = beside_a_default(&home).await;
    let waiting = ask_often(stage.address(), 5, &label_of(HOST));
    stage.metric_becomes(WAITING, 5.0).await;
    let refusal = ApiError::new(ErrorCode::Internal, "the store cannot be read");
    refuse(&stage, PREVIEW, refusal);
    for response in all(waiting).await {
        let retry_after = response.header("retry-after");
        assert_eq!(
            (response.status, response.error(), retry_after),
            (500, "lookup_failed", None)
        );
        let text = "The server could not look up what serves this address. (lookup_failed)";
        assert_eq!(response.body.trim(), text);
    }
    assert_eq!(home.requests(), 0);
    // The next one asks again.
    stage.grant(PREVIEW, &preview, 10);
    stage.control.change(|inner| inner.refusals.clear());
    assert_eq!(ask(stage.address(), &label_of(HOST)).await.body, "preview");
}

#[tokio::test(flavor = "multi_thread")]
async fn e3_while_a_sandbox_serves_a_failed_lookup_only_means_waiting_for_room() {
    let stage = cold_label().await;
    let preview = App::start("preview").await;
    stage.grant(PREVIEW, &preview, 1);
    let mut busy = stage.client().await;
    busy.send(&get(&format!("pr1.{HOST}"), "/hold")).await;
    becomes("requests", 1, || preview.requests()).await;
    let refusal = ApiError::new(ErrorCode::Internal, "the store cannot be read");
    refuse(&stage, PREVIEW, refusal);
    let asked = |inner: &mut Inner| inner.acquires.len();
    let before = stage.control.change(asked);
    let waiting = ask_often(stage.address(), 1, &label_of(HOST));
    // Asked for the second time, it has taken the first answer in.
    becomes("asked again", true, || stage.control.change(asked) >= before + 2).await;
    preview.state.release.add_permits(1);
    for response in all(waiting).await {
        assert_eq!((response.status, response.body.as_str()), (200, "preview"));
    }
    assert_eq!(busy.response().await.status, 200);
}

fn refuse(stage: &Stage, version: &str, refusal: ApiError) {
    stage
        .control
        .change(|inner| inner.refusals.insert(version.to_owned(), refusal));
}
