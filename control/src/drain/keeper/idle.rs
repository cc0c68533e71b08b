//! Decides when a step of a drain has nothing left to wait for, as far as an event tells.

use crate::drain::Admission;
use crate::drain::phase::Step;

/// Resolves when what the step waits for is over.
///
/// A sandbox may be PENDING still when nothing is counted any more: one that an earlier daemon started, or one whose app has yet to
/// tell; then it is news that is waited for.
pub(super) async fn idle(admission: &Admission, step: Option<Step>) {
    let seen = admission.seen();
    match step {
        Some(Step::Admitted) if seen.admitted.total() > 0 => {
            let _all = admission.close_api().wait(std::future::pending()).await;
        }
        Some(Step::Starts) if seen.starts > 0 => {
            let _all = admission.close_starts().wait(std::future::pending()).await;
        }
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Work;
    use crate::record::NodeRecord;
    use futures_util::FutureExt;
    use miren_api::id::NodeId;
    use tokio::sync::watch;

    #[test]
    fn d8_what_is_over_already_is_no_event_and_what_ends_is_one() {
        let (_node, record) = watch::channel(NodeRecord {
            id: NodeId::FIRST,
            name: "here".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            cordoned: false,
            drain: None,
        });
        let admission = Admission::new(1, record);
        let start = admission.start().expect("it is open");
        let work = admission.admit(Work::Deploy).expect("it is open");
        for step in [Step::Admitted, Step::Starts] {
            assert!(idle(&admission, Some(step)).now_or_never().is_none(), "{step:?}");
        }
        let mut starts = Box::pin(idle(&admission, Some(Step::Starts)));
        assert!((&mut starts).now_or_never().is_none());
        drop((start, work));
        assert!(starts.now_or_never().is_some(), "the last one is over");
        // As where a sandbox is PENDING that nobody counts: to look again and again would find the same.
        for step in [Step::Admitted, Step::Starts] {
            assert!(idle(&admission, Some(step)).now_or_never().is_none(), "{step:?}");
        }
    }
}
