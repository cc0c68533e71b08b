//! One line at the bottom of a terminal that tells what is being done and for how long; what else is written goes above it.

use crate::shown;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it shows that time passes.
const TICK: Duration = Duration::from_millis(120);
/// What is cut off where a terminal is narrow is the end of what is being done.
const TEMPLATE: &str = "{spinner} {elapsed:>4} {wide_msg}";

/// The line, once it is there. Cheap to clone.
#[derive(Clone, Default)]
pub struct Moving(Arc<Mutex<Option<Line>>>);

struct Line {
    bar: ProgressBar,
    step: String,
}

impl Moving {
    /// Draws it on stderr from now on.
    pub fn begin(&self, step: &str) {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message(message(step, None));
        bar.enable_steady_tick(TICK);
        let step = step.to_owned();
        self.put(Some(Line { bar, step }));
    }

    /// What is being done now; false where there is no line.
    pub fn step(&self, step: &str) -> bool {
        self.with(|line| {
            step.clone_into(&mut line.step);
            line.bar.set_message(message(step, None));
        })
    }

    /// How far the step is; false where there is no line.
    pub fn detail(&self, detail: &str) -> bool {
        self.with(|line| line.bar.set_message(message(&line.step, Some(detail))))
    }

    /// Does `write` where the line is not in its way.
    pub fn aside(&self, write: impl FnOnce()) {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*line {
            Some(line) => line.bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the line away: what comes now is the result.
    pub fn end(&self) {
        self.put(None);
    }

    pub fn is_there(&self) -> bool {
        self.with(|_| {})
    }

    fn put(&self, line: Option<Line>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), line);
        if let Some(before) = before {
            before.bar.finish_and_clear();
        }
    }

    fn with(&self, change: impl FnOnce(&mut Line)) -> bool {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.as_mut().map(change).is_some()
    }
}

fn message(step: &str, detail: Option<&str>) -> String {
    let text = match detail {
        Some(detail) => format!("{step}: {detail}"),
        None => step.to_owned(),
    };
    // A tab is as wide as the terminal thinks.
    shown::line(&text).replace('\t', " ")
}
