//! Decides what the supervisor that started a daemon is told: that it serves, that it lives, and how long its end may take.

use sd_notify::NotifyState;
use std::io;
use std::time::Duration;

/// On top of what the phases of an end may take: what a supervisor waits for before it kills (L7 in docs/operations.md).
pub const SLACK: Duration = Duration::from_secs(5);
/// How often a long end is said to go on.
const AGAIN: Duration = Duration::from_secs(10);

/// Says that the process serves. `facts`: JSON for whoever started it, as `X_MIREN=…`.
///
/// # Errors
/// When `NOTIFY_SOCKET` is set and cannot be written to.
pub fn serves(facts: &str) -> io::Result<()> {
    let facts = format!("X_MIREN={facts}");
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Custom(&facts)])
}

/// Says that the process ends now, and that all of it may take `budget`; goes on saying so until it is over. None: nobody can
/// tell, it may last.
pub async fn ends(budget: Option<Duration>) {
    tell(&[NotifyState::Stopping]);
    let begun = tokio::time::Instant::now();
    loop {
        let left = budget.map(|budget| (budget + SLACK).saturating_sub(begun.elapsed()));
        if left == Some(Duration::ZERO) {
            return;
        }
        // Until it is said again, and a moment more where a machine is slow.
        let next = left.map_or(3 * AGAIN, |left| left.min(3 * AGAIN));
        let micros = u32::try_from(next.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Says again and again that the runtime gets to its tasks, for as long as this is polled: a supervisor that hears nothing for
/// longer than its `WatchdogSec` starts another process. Resolves at once where nobody listens.
pub async fn watched() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut beat = tokio::time::interval(interval / 2);
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// One that cannot be told does what it does without a supervisor.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor could not be told");
    }
}

/// Refuses an end that a supervisor would cut short.
///
/// # Errors
/// When the phases that are `named` with their budgets take longer together, with [`SLACK`], than `patience`, the time between
/// SIGTERM and SIGKILL.
pub fn check_budgets(named: &[(&str, Duration)], patience: Duration) -> Result<(), String> {
    let all: Duration = named.iter().map(|(_, budget)| *budget).sum();
    if all + SLACK <= patience {
        return Ok(());
    }
    let parts: Vec<String> = named
        .iter()
        .map(|(name, budget)| format!("{name} {budget:?}"))
        .collect();
    Err(format!(
        "an end may take {:?} ({}, and {SLACK:?}), but the supervisor kills after {patience:?}",
        all + SLACK,
        parts.join(" + ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l7_phases_that_take_longer_together_than_the_supervisor_waits_are_refused_with_their_names() {
        let phases = [
            ("drain.request_timeout", Duration::from_secs(30)),
            ("drain.stop_grace", Duration::from_secs(10)),
        ];
        assert_eq!(check_budgets(&phases, Duration::from_secs(45)), Ok(()));
        let refused = check_budgets(&phases, Duration::from_secs(44)).unwrap_err();
        for part in ["45s", "44s", "drain.request_timeout 30s", "drain.stop_grace 10s"] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}
