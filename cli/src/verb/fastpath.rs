//! `miren fastpath`: whether the kernel side is on, what it has done, and its changes as they happen.

use crate::failure::{Doing, Failure};
use crate::{Context, paths};
use clap::Subcommand;
use futures_util::{Stream, StreamExt};
use miren_api::ClientError;
use miren_api::client::Event;
use miren_api::resource::{FastPathStatus, SlotTransition};
use std::pin::pin;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum FastPathVerb {
    /// Mode, programs and counts
    Status,
    /// The slots in use, then every change of one as it happens, with the kernel's own time
    Watch,
}

pub async fn run(verb: FastPathVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        FastPathVerb::Status => {
            let what = || "asking for the fast path".into();
            let status: FastPathStatus = context.client()?.get(paths::FAST_PATH).await.doing(what)?;
            context.console.thing(&status, &fields(&status))
        }
        FastPathVerb::Watch => watch(context).await,
    }
}

/// Wait before the stream is taken up again after the connection broke.
const AGAIN: Duration = Duration::from_millis(250);

/// Goes on until interrupted: a server that was there once and went away is waited for, and the gap is said.
async fn watch(context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    let mut lost = false;
    let mut stream = client.events(paths::FAST_PATH_EVENTS, None).await;
    let what = || "watching the fast path".to_owned();
    if let Err(error) = stream {
        return Err(error).doing(what);
    }
    loop {
        match stream {
            Ok(events) => {
                if std::mem::take(&mut lost) {
                    context
                        .console
                        .note("the server is back; the slots in use follow again, not what changed meanwhile");
                }
                print_all(events, context).await.doing(what)?;
            }
            Err(error @ ClientError::Refused(_)) => return Err(error).doing(what),
            Err(_) => {}
        }
        if !std::mem::replace(&mut lost, true) {
            context.console.note("the server went away; waiting for it");
        }
        tokio::time::sleep(AGAIN).await;
        stream = client.events(paths::FAST_PATH_EVENTS, None).await;
    }
}

/// Prints changes until the stream ends, whole or broken.
async fn print_all(
    stream: impl Stream<Item = Result<Event, ClientError>>,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let mut stream = pin!(stream);
    while let Some(Ok(event)) = stream.next().await {
        if event.name == "missed" {
            let many = &event.data;
            context
                .console
                .note(&format!("{many} changes came faster than they could be shown"));
            continue;
        }
        let change: SlotTransition = serde_json::from_str(&event.data).map_err(|error| {
            Failure::failed(format!("the server sent a change this program does not know: {error}"))
                .remedy("compare \"miren version\" with the server's")
        })?;
        if context.console.is_json() {
            context.console.json_line(&change)?;
        } else {
            context.console.line(&in_words(&change))?;
        }
    }
    Ok(())
}

fn in_words(change: &SlotTransition) -> String {
    let seconds = change.at_ns / 1_000_000_000;
    let micros = change.at_ns % 1_000_000_000 / 1_000;
    let mut text = format!(
        "{seconds}.{micros:06}  slot {} generation {}  {}  by {}",
        change.slot, change.generation, change.state, change.by
    );
    if let Some(sandbox) = &change.sandbox {
        text.push_str(&format!("  {sandbox}"));
    }
    if let Some(app) = &change.app {
        text.push_str(&format!("  {app}"));
    }
    if let Some(status) = change.exit_code {
        text.push_str(&format!("  wait status {status:#x}"));
    }
    text
}

fn fields(status: &FastPathStatus) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Mode", status.mode.clone())];
    if let Some(reason) = &status.reason {
        fields.push(("Reason", reason.clone()));
    }
    fields.extend([
        ("Pins", status.pin_dir.clone()),
        ("ABI", status.abi.to_string()),
        (
            "Slots",
            format!("{} of {} used", status.slots.used, status.slots.capacity),
        ),
        (
            "Changes",
            format!(
                "{} by kernel, {} by control",
                status.transitions.by_kernel, status.transitions.by_control
            ),
        ),
        ("Refused connects", status.refused_connects.to_string()),
        ("Reset packets", status.reset_packets.to_string()),
        ("Dropped events", status.dropped_events.to_string()),
    ]);
    for program in &status.programs {
        fields.push((
            "Program",
            format!(
                "{} (id {}, tag {}) on {}",
                program.name, program.id, program.tag, program.attached_to
            ),
        ));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::id::NodeId;

    #[test]
    fn a_change_is_one_line_with_the_kernels_time() {
        let change = SlotTransition {
            node: NodeId::FIRST,
            slot: 3,
            generation: 7,
            state: "DEAD".into(),
            by: "kernel".into(),
            at_ns: 12_000_345_678,
            exit_code: Some(0x9),
            sandbox: None,
            app: None,
        };
        assert_eq!(
            in_words(&change),
            "12.000345  slot 3 generation 7  DEAD  by kernel  wait status 0x9"
        );
    }
}
