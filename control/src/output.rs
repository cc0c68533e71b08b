//! Decides what is kept of what deploys say on their way, for people who follow them: the newest lines of the newest deploys.

use jiff::Timestamp;
use miren_api::deploy::OutputLine;
use miren_api::id::DeployId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Lines kept of one deploy: of a build, its last steps.
const LINES: usize = 500;
/// Deploys whose lines are kept.
const DEPLOYS: usize = 64;

/// The lines of all deploys. They are not part of any record: a deploy that begins anew writes them anew.
pub struct Outputs {
    /// Numbers of lines are higher.
    base: u64,
    kept: Mutex<VecDeque<(String, Arc<Output>)>>,
}

/// The lines of one deploy.
#[derive(Debug)]
pub struct Output {
    /// Numbers of its lines are higher.
    pub base: u64,
    lines: Mutex<VecDeque<OutputLine>>,
    /// Number of the newest one.
    newest: watch::Sender<u64>,
    ended: CancellationToken,
}

impl Outputs {
    /// Of a process that started now: its lines have higher numbers than those of an earlier one, unless that said a million
    /// in a second.
    pub fn new(now: Timestamp) -> Self {
        Self {
            base: now.as_microsecond().unsigned_abs(),
            kept: Mutex::default(),
        }
    }

    /// Those of a deploy that has not ended, by its id, or of a preview that is being made, by the key of the request.
    pub fn open(&self, key: &str) -> Arc<Output> {
        let mut kept = self.kept.lock();
        if let Some((_, known)) = kept.iter().find(|(known, _)| known == key) {
            return Arc::clone(known);
        }
        let output = Arc::new(Output {
            base: self.base,
            lines: Mutex::default(),
            newest: watch::Sender::new(self.base),
            ended: CancellationToken::new(),
        });
        kept.truncate(DEPLOYS - 1);
        kept.push_front((key.to_owned(), Arc::clone(&output)));
        output
    }

    /// The newest line of a deploy.
    pub fn last(&self, deploy: &DeployId) -> Option<String> {
        let kept = self.kept.lock();
        let (_, output) = kept.iter().find(|(key, _)| key == deploy.as_str())?;
        let lines = output.lines.lock();
        lines.back().map(|line| line.text.clone())
    }
}

impl Output {
    pub fn add(&self, text: String) {
        let mut lines = self.lines.lock();
        let number = *self.newest.borrow() + 1;
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(OutputLine { number, text });
        // While the lock is held: numbers go out in order.
        self.newest.send_replace(number);
    }

    /// The first line after `number`; that is a later one if those between are not kept any more.
    pub fn after(&self, number: u64) -> Option<OutputLine> {
        let lines = self.lines.lock();
        let at = lines.partition_point(|line| line.number <= number);
        lines.get(at).cloned()
    }

    /// There will be no more.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Resolves once there will be no more.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Resolves once there is a line after `number`.
    pub async fn beyond(&self, number: u64) {
        // Its sender is here.
        let _ = self.newest.subscribe().wait_for(|newest| *newest > number).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_numbered() {
        let outputs = Outputs::new(Timestamp::from_second(1).unwrap());
        let id = DeployId::generate();
        assert_eq!(outputs.last(&id), None);
        let output = outputs.open(id.as_str());
        for number in 1..=LINES + 10 {
            output.add(number.to_string());
        }
        let base = output.base;
        let text_after = |number| output.after(base + number).map(|line| line.text);
        assert_eq!(text_after(0).as_deref(), Some("11"), "ten are gone");
        assert_eq!(text_after(20).as_deref(), Some("21"));
        assert_eq!(text_after(LINES as u64 + 10), None);
        assert_eq!(outputs.last(&id), Some((LINES + 10).to_string()));
        assert_eq!(
            outputs.open(id.as_str()).after(base),
            output.after(base),
            "it is the same one"
        );
        let later = Outputs::new(Timestamp::from_second(2).unwrap()).open(id.as_str());
        later.add("again".into());
        assert_eq!(later.after(base + 510).map(|line| line.text).as_deref(), Some("again"));
    }

    #[test]
    fn only_the_newest_deploys_are_kept() {
        let outputs = Outputs::new(Timestamp::UNIX_EPOCH);
        let first = DeployId::generate();
        outputs.open(first.as_str()).add("line".into());
        for _ in 1..DEPLOYS {
            outputs.open(DeployId::generate().as_str());
        }
        assert!(outputs.last(&first).is_some());
        outputs.open(DeployId::generate().as_str());
        assert!(outputs.last(&first).is_none());
    }

    #[tokio::test]
    async fn a_line_wakes_whoever_waits_for_it() {
        let output = Outputs::new(Timestamp::UNIX_EPOCH).open(DeployId::generate().as_str());
        let waiting = tokio::spawn({
            let output = Arc::clone(&output);
            async move {
                output.beyond(1).await;
                output.after(1)
            }
        });
        output.add("one".into());
        output.add("two".into());
        let line = waiting.await.unwrap().unwrap();
        assert_eq!((line.number, line.text.as_str()), (2, "two"));
    }
}
