//! Sandboxes that end by themselves with a request.

use crate::app::App;
use crate::client::{ask, get};
use crate::stage::{HOST, Sandbox, Stage, becomes};
use miren_loader::State;
use tokio::task::JoinHandle;

/// Three apps with room.
async fn three() -> (Stage, Vec<(App, Sandbox)>) {
    let stage = Stage::new("").await;
    let mut apps = Vec::new();
    for name in ["one", "two", "three"] {
        let app = App::start(name).await;
        let sandbox = stage.grant("shop-v1", &app, 100);
        apps.push((app, sandbox));
    }
    (stage, apps)
}

fn held(stage: &Stage) -> JoinHandle<(u16, String)> {
    let address = stage.address();
    tokio::spawn(async move {
        let response = ask(address, &get(HOST, "/hold")).await;
        (response.status, response.body)
    })
}

/// Waits until one of `apps` has another request than those of `before`; says which one.
async fn taken(apps: &[(App, Sandbox)], before: &[usize]) -> usize {
    let which = || (0..apps.len()).find(|at| apps[*at].0.requests() > before[*at]);
    becomes("some app got the request", true, || which().is_some()).await;
    which().unwrap()
}

fn counts(apps: &[(App, Sandbox)]) -> Vec<usize> {
    apps.iter().map(|(app, _)| app.requests()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_a_request_whose_sandbox_ended_by_itself_is_repeated_once() {
    let (stage, apps) = three().await;
    let request = held(&stage);
    let first = taken(&apps, &[0; 3]).await;
    stage.advance(apps[first].1, State::Dead);
    let before = std::array::from_fn::<_, 3, _>(|at| usize::from(at == first));
    let second = taken(&apps, &before).await;
    stage.advance(apps[second].1, State::Dead);
    assert_eq!(request.await.unwrap().0, 502);
    assert_eq!(counts(&apps).iter().sum::<usize>(), 2, "the third one never saw it");
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_one_whose_sandboxes_were_stopped_goes_on_as_before() {
    let (stage, apps) = three().await;
    let request = held(&stage);
    let mut before = vec![0; 3];
    for _ in 0..2 {
        let at = taken(&apps, &before).await;
        before[at] += 1;
        for state in [State::Draining, State::Stopping, State::Stopped] {
            stage.advance(apps[at].1, state);
        }
    }
    let last = taken(&apps, &before).await;
    apps[last].0.state.release.add_permits(1);
    assert_eq!(request.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_an_end_that_is_told_late_counts_all_the_same() {
    let (stage, apps) = three().await;
    let address = stage.address();
    // The app closes the connection, and its word says nothing until a second one has the request.
    let request = tokio::spawn(async move { ask(address, &get(HOST, "/let-go")).await.status });
    let first = taken(&apps, &[0; 3]).await;
    let before = counts(&apps);
    apps[first].0.state.let_go.notify_one();
    let second = taken(&apps, &before).await;
    stage.advance(apps[first].1, State::Dead);
    apps[second].0.state.let_go.notify_one();
    assert_eq!(request.await.unwrap(), 502);
    assert_eq!(counts(&apps).iter().sum::<usize>(), 2, "the third one never saw it");
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_requests_that_end_sandboxes_are_not_repeated_for_ever() {
    let (stage, mut apps) = three().await;
    for round in 0..3 {
        let before = counts(&apps);
        let request = held(&stage);
        let first = taken(&apps, &before).await;
        let at_first = counts(&apps);
        stage.advance(apps[first].1, State::Dead);
        if round == 2 {
            assert_eq!(request.await.unwrap().0, 502);
            assert_eq!(counts(&apps), at_first, "nothing was left to pay with");
            return;
        }
        let second = taken(&apps, &at_first).await;
        apps[second].0.state.release.add_permits(1);
        assert_eq!(request.await.unwrap().0, 200);
        let next = App::start("next").await;
        let sandbox = stage.grant("shop-v1", &next, 100);
        apps[first] = (next, sandbox);
    }
}
