//! Decides how new lines, new sandboxes and new services of an app are noticed: inotify wakes, the folders tell.

use super::history;
use super::read::LogQuery;
use super::tail::Tail;
use crate::readable::readable;
use miren_api::resource::LogLine;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Reads the logs of one query as they grow.
pub(super) struct Follow {
    inotify: Inotify,
    logs: Logs,
    begun: bool,
}

/// What has been read so far. Moves to a thread for blocking work and back.
struct Logs {
    log_dir: PathBuf,
    query: LogQuery,
    tails: BTreeMap<PathBuf, Tail>,
}

impl Follow {
    /// Begins to watch; nothing written after this is missed.
    pub(super) fn open(log_dir: PathBuf, query: LogQuery) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let tails = BTreeMap::new();
        let follow = Self {
            inotify,
            logs: Logs { log_dir, query, tails },
            begun: false,
        };
        // The folder of an app that has not run yet: its first service has to be seen.
        std::fs::create_dir_all(follow.app_dir())?;
        follow.watch()?;
        Ok(follow)
    }

    fn app_dir(&self) -> PathBuf {
        self.logs.log_dir.join(self.logs.query.app.as_str())
    }

    /// Watches every folder there is. Watching one again changes nothing.
    fn watch(&self) -> io::Result<()> {
        let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY;
        self.inotify.add_watch(&self.app_dir(), changes)?;
        let (query, log_dir) = (&self.logs.query, &self.logs.log_dir);
        for dir in history::services(log_dir, &query.app, query.service.as_deref())? {
            self.inotify.add_watch(&dir, changes)?;
        }
        Ok(())
    }

    /// The next lines; `None` when nobody reads any more.
    pub(super) async fn next(
        &mut self,
        reader: &mpsc::Sender<io::Result<LogLine>>,
    ) -> io::Result<Option<Vec<LogLine>>> {
        loop {
            let lines = self.read().await?;
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
            tokio::select! {
                () = reader.closed() => return Ok(None),
                changed = self.changed() => changed?,
            }
        }
    }

    async fn read(&mut self) -> io::Result<Vec<LogLine>> {
        self.watch()?;
        let first = !std::mem::replace(&mut self.begun, true);
        let empty = Logs {
            log_dir: self.logs.log_dir.clone(),
            query: self.logs.query.clone(),
            tails: BTreeMap::new(),
        };
        let mut logs = std::mem::replace(&mut self.logs, empty);
        let read = tokio::task::spawn_blocking(move || {
            let lines = if first { logs.existing() } else { logs.new_lines() };
            (logs, lines)
        });
        let (logs, lines) = read.await.map_err(io::Error::other)?;
        self.logs = logs;
        lines
    }

    /// What changed is not looked at: the folders are read again, so nothing depends on the queue being complete.
    async fn changed(&self) -> io::Result<()> {
        readable(&self.inotify).await?;
        loop {
            match self.inotify.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Logs {
    fn existing(&mut self) -> io::Result<Vec<LogLine>> {
        self.open_new()?;
        history::lines(self.tails.values_mut(), &self.query)
    }

    fn new_lines(&mut self) -> io::Result<Vec<LogLine>> {
        self.open_new()?;
        let mut lines = Vec::new();
        for tail in self.tails.values_mut() {
            lines.extend(tail.follow()?);
        }
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }

    /// Sandboxes that were started since the last look; those whose log was pruned are let go.
    fn open_new(&mut self) -> io::Result<()> {
        let logs = history::logs(&self.log_dir, &self.query)?;
        self.tails.retain(|path, _| logs.contains(path));
        for log in logs {
            if !self.tails.contains_key(&log)
                && let Some(tail) = Tail::open(&log)?
            {
                self.tails.insert(log, tail);
            }
        }
        Ok(())
    }
}
