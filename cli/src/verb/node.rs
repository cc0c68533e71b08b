//! `miren node`: whether the node takes work; cordon, drain, and back.

use crate::asking::Change;
use crate::failure::{Doing, Exit, Failure};
use crate::table::{Cell, Table, Tone};
use crate::{Context, ago, paths};
use clap::{Args, Subcommand};
use miren_api::node::{DrainRequest, NodePhase, NodeStatus};
use serde::Serialize;

mod drain;
mod progress;
#[cfg(test)]
mod tests;

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Whether it takes work, how far its drain is, and what holds that up
    Status,
    /// Take no new deploys, previews and runs; what runs goes on
    Cordon,
    /// Take them again
    Uncordon,
    /// Take nothing new, let what was let in finish, and end every sandbox; waits until none is left
    Drain(DrainOptions),
    /// Take work again
    Undrain,
}

#[derive(Debug, Args)]
pub struct DrainOptions {
    /// When what is left is forced to end; 0s waits for ever; otherwise what drain.node_timeout says
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Force what is left to end now, within 30 s: of a drain that goes on, or of one that begins with this
    #[arg(long)]
    force: bool,
    /// There is no other node: what it serves is down until it is undrained
    #[arg(long)]
    allow_outage: bool,
}

impl DrainOptions {
    fn into_request(self) -> DrainRequest {
        DrainRequest {
            timeout: self.timeout,
            force: self.force,
            allow_outage: self.allow_outage,
        }
    }
}

pub async fn run(verb: NodeVerb, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match verb {
        NodeVerb::Status => {
            let status: NodeStatus = context
                .client()?
                .get(paths::NODE)
                .await
                .doing(|| "showing the node".into())?;
            show(&status, context)?;
        }
        NodeVerb::Cordon => {
            let status = ask("cordon", "cordoning the node", &no_options(), context).await?;
            let told = format!(
                "Node {} takes no new deploys, previews and runs; what it runs goes on",
                status.node
            );
            context.console.done(&status, &told)?;
        }
        NodeVerb::Uncordon => {
            let status = ask("uncordon", "uncordoning the node", &no_options(), context).await?;
            let told = format!("Node {} takes new deploys, previews and runs", status.node);
            context.console.done(&status, &told)?;
        }
        NodeVerb::Undrain => {
            let status = ask("undrain", "undraining the node", &no_options(), context).await?;
            let told = match status.phase {
                NodePhase::Cordoned => format!("Node {} runs its apps again; it is cordoned", status.node),
                _ => format!("Node {} takes work again", status.node),
            };
            context.console.done(&status, &told)?;
        }
        NodeVerb::Drain(options) => return drain::run(options.into_request(), context).await,
    }
    Ok(Exit::Done)
}

fn no_options() -> serde_json::Map<String, serde_json::Value> {
    serde_json::Map::new()
}

async fn ask(verb: &str, doing: &str, body: &impl Serialize, context: &Context<'_>) -> Result<NodeStatus, Failure> {
    let path = format!("{}/{verb}", paths::NODE);
    let client = context.client()?;
    let change = Change {
        doing,
        look: "miren node status",
    };
    change.asked(|| client.post(&path, body), context.console).await
}

/// The node for people, or all of it for scripts.
fn show(status: &NodeStatus, context: &mut Context<'_>) -> Result<(), Failure> {
    context.console.thing(status, &fields(status))?;
    context.console.section("WAITS FOR", blockers(status))?;
    if !context.console.is_json() {
        for error in &status.errors {
            context.console.note(error);
        }
    }
    Ok(())
}

/// Tunnels are requests that may last for hours: they are told apart where there are any.
fn requests(status: &NodeStatus) -> String {
    match status.tunnels {
        0 => status.requests.to_string(),
        1 => format!("{} (1 tunnel)", status.requests),
        tunnels => format!("{} ({tunnels} tunnels)", status.requests),
    }
}

fn fields(status: &NodeStatus) -> Vec<(&'static str, String)> {
    let by_state = status.sandboxes.iter().filter(|(_, count)| **count > 0);
    let sandboxes: Vec<String> = by_state.map(|(state, count)| format!("{count} {state}")).collect();
    let mut fields = vec![
        ("Node", format!("{} ({})", status.node, status.id)),
        ("Phase", progress::phase(status)),
        ("Cordoned", if status.cordoned { "yes" } else { "no" }.to_owned()),
        ("Admitted", status.admitted.to_string()),
        ("Starts", status.starts.to_string()),
        ("Requests", requests(status)),
        (
            "Sandboxes",
            match sandboxes.is_empty() {
                true => "none".to_owned(),
                false => sandboxes.join(", "),
            },
        ),
    ];
    if let Some(step) = status.waits_for {
        fields.push(("Waits for", step.as_words().to_owned()));
    }
    if status.clean_ups > 0 {
        fields.push(("Clean-ups", status.clean_ups.to_string()));
    }
    if let Some(since) = status.since {
        fields.push(("Drains since", ago::since(Some(since))));
    }
    if let Some(deadline) = status.deadline {
        let what = match (status.phase, status.overdue) {
            (NodePhase::Forced, false) => "Gives up at",
            (NodePhase::Forced, true) => "Gave up at",
            _ => "Forced at",
        };
        fields.push((what, ago::exactly(deadline)));
    }
    fields
}

/// What a drain waits for.
fn blockers(status: &NodeStatus) -> Table {
    let mut table = Table::new(&["id", "state", "since", "why"])
        .cut(&["why"])
        .leave(&["since", "why"]);
    for blocker in &status.blockers {
        table.row(vec![
            blocker.id.as_str().into(),
            Cell::toned(&blocker.state, Tone::Waiting),
            ago::since(blocker.since).into(),
            blocker.why.as_str().into(),
        ]);
    }
    if status.more_blockers > 0 {
        let more = format!("and {} more", status.more_blockers);
        table.row(vec![more.into(), "-".into(), "-".into(), "-".into()]);
    }
    table
}
