//! How far a drain is, as it goes on: a bar on a terminal, a line for each step elsewhere.

use crate::console::Console;
use indicatif::{ProgressBar, ProgressStyle};
use miren_api::node::{DrainStep, NodePhase, NodeStatus};

/// What has been shown.
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Most sandboxes that were seen at once.
    most: u64,
    shown: Option<(NodePhase, Option<DrainStep>, u64)>,
}

impl Progress {
    pub fn of(status: &NodeStatus, console: &Console) -> Self {
        Self {
            bar: console.progress.then(|| bar(status)),
            most: 0,
            shown: None,
        }
    }

    /// Draws the bar anew, or says what has changed: each step, and each further tenth of the sandboxes.
    pub fn show(&mut self, status: &NodeStatus, console: &Console) {
        self.most = self.most.max(status.living());
        let ended = self.most - status.living();
        if let Some(bar) = &self.bar {
            bar.set_length(self.most.max(1));
            bar.set_position(if self.most == 0 { 1 } else { ended });
            bar.set_message(line(status));
            return;
        }
        let tenth = (ended * 10).checked_div(self.most).unwrap_or_default();
        let now = (status.phase, status.waits_for, tenth);
        if !console.is_json() && self.shown.replace(now) != Some(now) && status.phase != NodePhase::Empty {
            console.note(&format!("  {}", line(status)));
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(status: &NodeStatus) -> ProgressBar {
    let bar = ProgressBar::new(status.living().max(1));
    let style = ProgressStyle::with_template("draining {bar:30} {pos}/{len} {msg}");
    style.map_or_else(|_| ProgressBar::hidden(), |style| bar.with_style(style))
}

/// Where the node is, in a few words.
pub fn phase(status: &NodeStatus) -> String {
    let phase = status.phase.as_str();
    match (status.phase, status.overdue) {
        (NodePhase::Forced, true) => format!("{phase}, and given up: something is left"),
        _ => phase.to_owned(),
    }
}

/// What is waited for, with its number, and what of it has waited longest.
pub fn line(status: &NodeStatus) -> String {
    let (living, phase) = (status.living(), status.phase.as_str());
    let what = match status.waits_for {
        Some(DrainStep::Admitted) => format!("{} let in before", status.admitted),
        Some(DrainStep::Starts) => format!("{} starting", status.starts.max(status.blockers.len() as u64)),
        Some(DrainStep::Sandboxes) => format!(
            "{}, {} in flight",
            several(living, "sandbox", "es"),
            several(status.requests, "request", "s")
        ),
        Some(DrainStep::CleanUps) => several(status.clean_ups, "clean-up", "s"),
        None => String::new(),
    };
    let oldest = status
        .blockers
        .first()
        .map(|blocker| format!(" ({}: {})", blocker.id, blocker.why));
    format!("{phase:<9} {what}{}", oldest.unwrap_or_default())
        .trim_end()
        .to_owned()
}

fn several(count: u64, what: &str, more: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}{more}"),
    }
}
