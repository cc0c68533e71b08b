//! Decides how what a release command writes gets to who follows its deploy: all of it, before the deploy goes on.

use super::supply::Supply;
use crate::app::Event;
use crate::executor::Executor;
use crate::output::Output;
use crate::record::DeployRecord;
use futures_util::{Stream, StreamExt};
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::{LogLine, LogStream};
use miren_sandbox::logs::{LogQuery, in_short};
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Lines of a log that are looked for; more than a deploy's output keeps.
const MOST: usize = 1000;
/// Of each line, characters that a deploy keeps: its log has all of it.
const CHARACTERS: usize = 1000;
/// Longest time spent on reading what it wrote last.
const PATIENCE: Duration = Duration::from_secs(2);

/// Release commands whose output is passed on, by their runs.
#[derive(Default)]
pub(super) struct Released(BTreeMap<SandboxId, Passing>);

struct Passing {
    over: CancellationToken,
    is_told: bool,
    _task: AbortOnDropHandle<()>,
}

impl Released {
    /// Whether all that it wrote has been passed on.
    pub fn is_told(&self, run: &SandboxId) -> bool {
        self.0.get(run).is_some_and(|passing| passing.is_told)
    }

    /// All that it wrote has been passed on.
    pub fn told(&mut self, run: &SandboxId) {
        if let Some(passing) = self.0.get_mut(run) {
            passing.is_told = true;
        }
    }

    pub fn forget(&mut self, run: &SandboxId) {
        self.0.remove(run);
    }
}

impl Supply {
    /// Passes on what the release command of a deploy writes, from its beginning; `is_over`: there will be no more. An event tells when
    /// all of it has been.
    pub fn pass_on(&mut self, record: &DeployRecord, run: &SandboxId, is_over: bool) {
        let (events, executor) = (&self.events, &self.executor);
        let passing = self.released.0.entry(run.clone()).or_insert_with(|| {
            let over = CancellationToken::new();
            let passing = Log {
                executor: Arc::clone(executor),
                app: record.deploy.app.clone(),
                run: run.clone(),
                output: self.outputs.open(record.id().as_str()),
                last: None,
            };
            let (events, ends) = (events.clone(), over.clone());
            let task = miren_log::spawn("the output of a release command", async move {
                let run = passing.run.clone();
                passing.pass_on(ends).await;
                // A task that is gone needs to know nothing.
                let _ = events.send(Event::Told(run));
            });
            Passing {
                over,
                is_told: false,
                _task: AbortOnDropHandle::new(task),
            }
        });
        if is_over {
            passing.over.cancel();
        }
    }
}

/// What one wrote, and how far it has been passed on.
struct Log {
    executor: Arc<dyn Executor>,
    app: AppName,
    run: SandboxId,
    output: Arc<Output>,
    last: Option<LogLine>,
}

impl Log {
    async fn pass_on(mut self, over: CancellationToken) {
        let mut lines = pin!(self.lines(true));
        while let Some(Some(line)) = over.run_until_cancelled(lines.next()).await {
            self.tell(line);
        }
        over.cancelled().await;
        // Following is behind what is written; what is there now is all there is.
        let rest = async {
            let all: Vec<LogLine> = self.lines(false).collect().await;
            let known = self
                .last
                .as_ref()
                .and_then(|last| all.iter().rposition(|line| line == last));
            let new = known.map_or(0, |known| known + 1);
            all.into_iter().skip(new).for_each(|line| self.tell(line));
        };
        if tokio::time::timeout(PATIENCE, rest).await.is_err() {
            self.output
                .add(format!("(the rest of what it wrote could not be read in {PATIENCE:?})"));
        }
    }

    fn tell(&mut self, line: LogLine) {
        if line.stream != LogStream::System {
            self.output.add(in_short(&line, CHARACTERS));
        }
        self.last = Some(line);
    }

    fn lines(&self, follow: bool) -> impl Stream<Item = LogLine> + use<> {
        let query = LogQuery {
            app: self.app.clone(),
            service: None,
            sandbox: Some(self.run.clone()),
            since: None,
            last: MOST,
            follow,
        };
        let lines = self.executor.logs(query);
        lines.filter_map(async |line: io::Result<LogLine>| line.ok())
    }
}
