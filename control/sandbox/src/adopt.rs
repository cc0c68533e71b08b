//! Decides, when control starts, which sandboxes of its last life go on, which have ended, and what is litter.

use crate::bundle::Processes;
use crate::files;
use crate::lifecycle::clean::until_clean;
use crate::lifecycle::{Life, Retirement, Sandbox, Stage};
use crate::node::Node;
use crate::order::{Budgets, Facts, Known, SandboxChange};
use crate::process::Process;
use miren_api::id::SandboxId;
use miren_api::resource::SandboxState;
use miren_loader::{SlotView, State};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How often a runtime that does not answer is asked again what it keeps.
const RUNTIME_RETRY: Duration = Duration::from_secs(5);

/// What is found about a sandbox that control knows.
struct Found {
    /// Of its app, as it was recorded when that was let go on.
    pid: Option<u32>,
    /// Its slot, if the slot still is of its generation and its address.
    slot: Option<(u32, SlotView)>,
    app: Option<Process>,
    helper: Option<Process>,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes on in this state.
    Lives(SandboxState),
    /// Its process is gone, or nothing says that it is the one that was meant.
    Over,
}

/// Adopts what lives, reports what ended, removes the rest.
pub(crate) async fn run(node: &Arc<Node>, known: Vec<Known>) -> Vec<SandboxChange> {
    let mut changes = Vec::new();
    for known in known.into_iter().filter(|known| !known.state.is_terminal()) {
        changes.extend(adopt(node, known).await);
    }
    remove_unknown(node).await;
    node.volumes.unmount_unheld().await;
    changes
}

async fn adopt(node: &Arc<Node>, known: Known) -> Option<SandboxChange> {
    let commands = node.registry.add(&known.order.id)?;
    let (id, service) = (known.order.id.as_str(), &known.order.service);
    node.volumes
        .adopt(id, &node.dir(id), Some((&known.order.app, &service.disks)));
    let found = find(node, &known);
    let verdict = judge(found.slot.as_ref().map(|(_, view)| view.state), found.app.is_some());
    let life = found.slot.map(|(slot, view)| Life {
        slot,
        generation: view.generation,
        woken: node.registry.watch_slot(slot),
        app: found.app,
        helper: found.helper,
    });
    let budgets = Budgets::of(&known.order.service);
    let facts = Facts {
        pid: known.facts.pid.or(found.pid),
        ..known.facts
    };
    let sandbox = Sandbox::new(Arc::clone(node), known.order, commands);
    let Verdict::Lives(state) = verdict else {
        let sandbox = sandbox.adopted(facts, known.state, life);
        return Some(bury(node, sandbox).await);
    };
    tracing::info!(sandbox = %sandbox.order().id, state = state.as_str(), "adopted");
    let sandbox = sandbox.adopted(facts, state, life);
    let change = (state != known.state).then(|| sandbox.present());
    let stage = match state {
        SandboxState::Pending => Stage::Ready,
        SandboxState::Running => Stage::Serve,
        SandboxState::Draining => Stage::Drain(Retirement::unheard(budgets)),
        _ => Stage::Stop {
            grace: Some(budgets.grace),
        },
    };
    node.spawn("a sandbox that was adopted", sandbox.run_from(stage));
    change
}

/// One that has ended: its word is moved if nobody did, its end is told, its remains go.
async fn bury(node: &Arc<Node>, mut sandbox: Sandbox) -> SandboxChange {
    let ended = Instant::now();
    if let Err(error) = node
        .cgroups
        .kill(sandbox.order().id.as_str(), node.config.cleanup_timeout)
        .await
    {
        tracing::error!(sandbox = %sandbox.order().id, %error, "what is left of it cannot be killed");
    }
    sandbox.end_word();
    let change = sandbox.end().await;
    node.spawn("the clean-up of a sandbox", sandbox.clean_up(ended));
    change
}

fn find(node: &Node, known: &Known) -> Found {
    let facts = &known.facts;
    let slot = facts.slot.map(|slot| (slot, node.fast_path.slot(slot)));
    let slot =
        slot.filter(|(slot, view)| is_the_same(facts, view, address_of(node, *slot)) && node.occupy_place(*slot));
    let recorded: Option<Processes> = files::read_json(&node.dir(known.order.id.as_str()).processes())
        .ok()
        .flatten();
    let recorded = recorded.filter(|processes| facts.pid.is_none_or(|pid| pid == processes.app.pid));
    let begun = recorded.filter(|processes| processes.has_begun);
    let living = |process: Option<_>| {
        let found = process.and_then(|reference| Process::find(reference).ok().flatten());
        found.filter(|process| !process.has_exited())
    };
    Found {
        pid: begun.map(|processes| processes.app.pid),
        slot,
        app: living(begun.map(|processes| processes.app)),
        helper: living(recorded.map(|processes| processes.helper)),
    }
}

fn address_of(node: &Node, slot: u32) -> Option<IpAddr> {
    node.config.subnet.address(slot).map(IpAddr::V4)
}

/// Whether a slot is about the sandbox that was meant: same generation, and the address that the slot has today.
fn is_the_same(facts: &Facts, view: &SlotView, address: Option<IpAddr>) -> bool {
    facts.generation == Some(view.generation) && view.state != State::Free && facts.ip.is_some() && facts.ip == address
}

/// The word says in which state it lives; the process says whether it does.
fn judge(word: Option<State>, app_lives: bool) -> Verdict {
    match word {
        Some(State::Pending) if app_lives => Verdict::Lives(SandboxState::Pending),
        Some(State::Running) if app_lives => Verdict::Lives(SandboxState::Running),
        Some(State::Draining) if app_lives => Verdict::Lives(SandboxState::Draining),
        Some(State::Stopping) if app_lives => Verdict::Lives(SandboxState::Stopping),
        _ => Verdict::Over,
    }
}

/// Folders, namespaces, veths, cgroups and slots of this node that belong to no sandbox.
async fn remove_unknown(node: &Arc<Node>) {
    let known = node.registry.ids();
    let mut found = match leftovers(node) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(error, "cannot look for what an earlier life left");
            BTreeSet::new()
        }
    };
    match node.runtime.found().await {
        Ok(more) => found.extend(more),
        Err(error) => {
            tracing::error!(error, "cannot ask the runtime what an earlier life left; trying again");
            node.spawn(
                "looking for what an earlier life left",
                remove_unknown_later(Arc::clone(node)),
            );
        }
    }
    for name in found.into_iter().filter(|name| !known.contains(name)) {
        tracing::info!(sandbox = %name, "removing what is left of a sandbox that nobody knows");
        node.volumes.adopt(&name, &node.dir(&name), None);
        if node.clean(&name, None).await.is_err() {
            try_again(node, &SandboxId::from_text(name));
        }
    }
    if let Err(error) = node.network.remove_veths_except(&node.taken_slots()).await {
        tracing::error!(%error, "cannot remove veths that belong to no sandbox");
    }
    free_slots(node);
}

/// As soon as the runtime answers.
async fn remove_unknown_later(node: Arc<Node>) {
    let found = loop {
        tokio::time::sleep(RUNTIME_RETRY).await;
        if let Ok(found) = node.runtime.found().await {
            break found;
        }
    };
    // Read after the answer: whatever was made meanwhile is known.
    let known = node.registry.ids();
    for name in found.into_iter().filter(|name| !known.contains(name)) {
        try_again(&node, &SandboxId::from_text(name));
    }
}

/// In the background, and counted as a sandbox that is not clean yet.
fn try_again(node: &Arc<Node>, id: &SandboxId) {
    if node.registry.add(id).is_none() {
        return;
    }
    let (owner, id) = (Arc::clone(node), id.clone());
    node.spawn("the clean-up of what an earlier life left", async move {
        until_clean(&owner, &id, None).await;
        owner.registry.remove(&id);
    });
}

fn leftovers(node: &Node) -> Result<BTreeSet<String>, String> {
    let dirs = files::names_in(&node.config.run_dir.join("sandboxes")).map_err(|error| error.to_string())?;
    let namespaces = node.network.found_namespaces().map_err(|error| error.to_string())?;
    let groups = node.cgroups.found().map_err(|error| error.to_string())?;
    let writers = node.writers.found().map_err(|error| error.to_string())?;
    let groups = groups.into_iter().chain(writers);
    Ok(dirs.into_iter().chain(namespaces).chain(groups).collect())
}

fn free_slots(node: &Arc<Node>) {
    let taken: BTreeSet<u32> = node.taken_slots().into_iter().collect();
    for slot in (0..node.fast_path.capacity()).filter(|slot| !taken.contains(slot)) {
        let view = node.fast_path.slot(slot);
        if view.state == State::Free {
            continue;
        }
        if view.state.is_live() {
            tracing::info!(
                slot,
                generation = view.generation,
                "ending a slot that belongs to no sandbox"
            );
            // Refused if its process ended at this moment.
            let _ = node.fast_path.advance(slot, view.generation, State::Dead);
        }
        node.rest_place(slot, view.generation, Instant::now());
    }
}
