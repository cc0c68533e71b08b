//! `miren node drain`: begins a drain, or hurries one on, and stays until nothing is left to wait for.

use super::progress::Progress;
use super::{ask, blockers};
use crate::Context;
use crate::console::Console;
use crate::failure::{Exit, Failure};
use crate::paths;
use futures_util::StreamExt;
use miren_api::node::{DrainRequest, NodePhase, NodeStatus};
use miren_api::{Client, ClientError};
use std::pin::pin;
use std::time::{Duration, Instant};

/// The server may be away this long (it restarts) before following is given up; the drain goes on regardless.
const AWAY: Duration = Duration::from_secs(30);
/// Wait between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(250);

pub async fn run(request: DrainRequest, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let begun = ask("drain", "draining the node", &request, context).await?;
    let client = context.client()?;
    let (node, began) = (begun.node.clone(), Instant::now());
    let ended = tokio::select! {
        // Heard from before anything is shown.
        biased;
        _ = tokio::signal::ctrl_c() => {
            let message = format!("node {node} goes on draining without being watched, and takes nothing new");
            let remedy = "miren node status; miren node undrain, to let it take work again";
            return Err(Failure::interrupted_while(message).remedy(remedy));
        }
        ended = to_the_end(&client, begun, context.console) => ended?,
    };
    conclude(&ended, began.elapsed(), context)
}

/// Shows how far it is, and returns the node once there is nothing to wait for.
async fn to_the_end(client: &Client, begun: NodeStatus, console: &Console) -> Result<NodeStatus, Failure> {
    let node = begun.node.clone();
    let mut progress = Progress::of(&begun, console);
    let (mut seen, mut away_since) = (begun, None::<Instant>);
    loop {
        progress.show(&seen, console);
        if seen.is_over() {
            progress.finish();
            return Ok(seen);
        }
        match watch(client, &mut progress, console).await {
            Ok(status) => (seen, away_since) = (status, None),
            Err(error) if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY => {
                progress.finish();
                let what = format!("following the drain of node {node}, which goes on without being watched");
                return Err(Failure::from(error).doing(&what).remedy("miren node status"));
            }
            Err(error) => {
                console.detail(&format!("following the drain of node {node}: {error}"));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Shows the node until the stream breaks or there is nothing to wait for; the last that was told.
async fn watch(client: &Client, progress: &mut Progress, console: &Console) -> Result<NodeStatus, ClientError> {
    let mut stream = pin!(client.events(paths::NODE_EVENTS, None).await?);
    while let Some(event) = stream.next().await {
        let event = event?;
        let told = serde_json::from_str::<NodeStatus>(&event.data).ok();
        let Some(status) = told.filter(|_| event.name == "node") else {
            continue;
        };
        progress.show(&status, console);
        if status.is_over() {
            return Ok(status);
        }
    }
    // Whether it is over is read from the node itself; the stream only makes that quick.
    client.get(paths::NODE).await
}

fn conclude(status: &NodeStatus, took: Duration, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let node = &status.node;
    if context.console.is_json() {
        context.console.document(status)?;
        return Ok(match status.phase {
            NodePhase::Empty => Exit::Done,
            _ => Exit::Failed,
        });
    }
    for error in &status.errors {
        context.console.note(&format!("  {error}"));
    }
    match status.phase {
        NodePhase::Empty => {
            let seconds = took.as_secs_f64();
            context.console.line(&format!(
                "Node {node} is drained: nothing is left of its sandboxes ({seconds:.1} s)"
            ))?;
            Ok(Exit::Done)
        }
        NodePhase::Active | NodePhase::Cordoned => Err(Failure::failed(format!(
            "the drain of node {node} was called off by \"miren node undrain\""
        ))),
        NodePhase::Draining | NodePhase::Forced | NodePhase::Down => {
            context.console.section("LEFT", blockers(status))?;
            let left = status.blockers.len() as u64 + status.more_blockers;
            let message =
                format!("node {node} is not drained: {left} of what it waits for is left after the forced phase");
            Err(Failure::failed(message).remedy("miren node status; the log of miren-control says more"))
        }
    }
}
