//! Decides when the supervisor is told that this process goes on: as often as it wants to hear it, until a successor says so of itself.

use super::upgrade::Successors;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How long the supervisor waits for a word, if it does; `handed` is what the process before this one was told.
pub fn interval(handed: Option<Duration>) -> Option<Duration> {
    sd_notify::watchdog_enabled()
        .or(handed)
        .filter(|interval| !interval.is_zero())
}

/// Tells it by `tell`, twice within `interval`, for as long as the tasks of this process get their turn. It never ends by itself.
pub async fn run<T: Future<Output = ()>>(interval: Duration, mut successors: Successors, mut tell: impl FnMut() -> T) {
    let telling = async {
        let mut tick = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            tell().await;
        }
    };
    tokio::select! {
        () = telling => {}
        // The successor is the one that is watched: a word of this process would hide that it hangs.
        Ok(_) = successors.wait_for(Option::is_some) => {}
    }
    std::future::pending().await
}

/// Tells the supervisor; who waits for it until it listens is no thread that serves.
pub async fn tell() {
    let told = tokio::task::spawn_blocking(|| sd_notify::notify(&[sd_notify::NotifyState::Watchdog])).await;
    if let Ok(Err(error)) = told {
        tracing::warn!(%error, "the supervisor cannot be told that this process goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::sync::watch;

    #[tokio::test(start_paused = true)]
    async fn the_supervisor_hears_of_it_in_time_until_a_successor_serves() {
        let (interval, heard) = (Duration::from_secs(30), Cell::new(0));
        let (successors, watched) = watch::channel(None);
        let tell = || {
            heard.set(heard.get() + 1);
            std::future::ready(())
        };
        let mut runs = std::pin::pin!(run(interval, watched, tell));
        let mut pass = async |time| drop(tokio::time::timeout(time, runs.as_mut()).await);
        pass(interval * 10).await;
        assert!(heard.get() >= 20, "{}", heard.get());
        successors.send_replace(Some(Vec::new()));
        pass(interval).await;
        heard.take();
        pass(interval * 10).await;
        assert_eq!(heard.get(), 0);
    }
}
