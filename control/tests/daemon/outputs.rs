//! What whoever follows a deploy is told of its build; with a script in the place of the builder.

use crate::node::Node;
use futures_util::StreamExt;
use miren_api::client::Event;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus, OutputLine};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::pin::pin;

/// A `docker` that answers and does as `build` says where it is to build.
fn docker(node: &Node, build: &str) {
    let programs = node.place.folder.path().join("programs");
    fs::create_dir_all(&programs).unwrap();
    let path = programs.join("docker");
    fs::write(&path, format!("#!/bin/sh\n[ $1 = version ] && exit 0\n{build}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Asks for a deploy of a folder with a Dockerfile.
async fn ask(node: &Node) -> Deploy {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in [
        (".miren/app.toml", "[build]\nbuilder = \"docker\"\n"),
        ("Dockerfile", "FROM scratch\n"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    let sent = node.client.upload(tar.into_inner().unwrap().into()).await.unwrap();
    let request = DeployRequest {
        artifact: Some(sent.digest),
        ..DeployRequest::default()
    };
    node.client.deploy("shop", &request, "a-key").await.unwrap()
}

/// Everything there is to follow, to its end.
async fn follow(node: &Node, deploy: &Deploy) -> Vec<Event> {
    let path = format!("/v1/deploys/{}/events", deploy.id);
    let events = node.client.events(&path, None).await.unwrap();
    events.map(Result::unwrap).collect().await
}

fn lines(events: &[Event]) -> Vec<OutputLine> {
    let output = events.iter().filter(|event| event.name == "output");
    output.map(|event| serde_json::from_str(&event.data).unwrap()).collect()
}

#[tokio::test]
async fn a_follower_hears_every_line_of_a_build_before_how_it_ended() {
    let node = Node::start().await;
    docker(&node, "seq 300; exit 3");
    let deploy = ask(&node).await;
    let events = follow(&node, &deploy).await;
    let told = lines(&events);
    let texts: Vec<&str> = told.iter().map(|line| line.text.as_str()).collect();
    let numbers: Vec<String> = (1..=300).map(|number| number.to_string()).collect();
    assert_eq!(texts[0], "building Dockerfile with docker");
    assert_eq!(texts[1..], numbers);
    assert!(told.windows(2).all(|two| two[1].number == two[0].number + 1));
    let last = events.last().unwrap();
    let ended: Deploy = serde_json::from_str(&last.data).unwrap();
    assert_eq!((last.name.as_str(), ended.status), ("deploy", DeployStatus::Failed));
    let error = ended.error.unwrap();
    assert!(
        error.starts_with("image: docker build of Dockerfile: exit status: 3"),
        "{error}"
    );
    let late = follow(&node, &deploy).await;
    assert_eq!(late.len(), 1, "what has ended says no more than how");
}

#[tokio::test]
async fn a_deploy_shows_what_its_build_said_last() {
    let node = Node::start().await;
    docker(&node, "echo so far; exec tail -f /dev/null");
    let deploy = ask(&node).await;
    let path = format!("/v1/deploys/{}/events", deploy.id);
    let mut events = pin!(node.client.events(&path, None).await.unwrap());
    while let Some(event) = events.next().await {
        if lines(&[event.unwrap()]).iter().any(|line| line.text == "so far") {
            break;
        }
    }
    let shown: Deploy = node.client.get(&format!("/v1/deploys/{}", deploy.id)).await.unwrap();
    assert_eq!(shown.progress.as_deref(), Some("so far"));
    let cancelled = format!("/v1/deploys/{}/cancel", deploy.id);
    let ended: Deploy = node.client.post(&cancelled, &()).await.unwrap();
    assert_eq!((ended.status, ended.progress), (DeployStatus::Failed, None));
}

#[tokio::test]
async fn lines_that_nobody_can_have_any_more_are_counted() {
    let node = Node::start().await;
    docker(&node, "seq 5000; echo end; exec tail -f /dev/null");
    let deploy = ask(&node).await;
    let path = format!("/v1/deploys/{}", deploy.id);
    crate::node::eventually("the build has said all", async || {
        let shown: Deploy = node.client.get(&path).await.unwrap();
        match shown.progress.as_deref() {
            Some("end") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let mut events = pin!(node.client.events(&format!("{path}/events"), None).await.unwrap());
    let first = loop {
        let event = events.next().await.unwrap().unwrap();
        if let Some(line) = lines(&[event]).pop() {
            break line;
        }
    };
    // One line says who builds.
    assert_eq!(first.text, "(4502 lines are not kept)");
    let _: Deploy = node.client.post(&format!("{path}/cancel"), &()).await.unwrap();
}
