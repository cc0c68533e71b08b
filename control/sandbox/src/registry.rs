//! Decides which sandboxes there are, how their tasks are reached, and when none is left.

use crate::exec::AT_A_TIME;
use crate::lifecycle::Command;
use crate::streams::Streams;
use miren_api::id::SandboxId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

/// A clean-up that has not succeeded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanUp {
    pub id: SandboxId,
    /// Attempts that failed.
    pub attempts: u32,
    /// What the last one failed with.
    pub error: String,
}

/// Every sandbox from its order to the end of its clean-up.
pub(crate) struct Registry {
    sandboxes: Mutex<HashMap<SandboxId, Entry>>,
    /// Whom to wake when the word of a slot has changed.
    slots: Mutex<HashMap<u32, Arc<Notify>>>,
    /// Who is to speak with the first command of a sandbox that is being started, or will be.
    clients: Mutex<HashMap<SandboxId, oneshot::Sender<Streams>>>,
    count: watch::Sender<usize>,
    /// Wakes clean-ups that wait for their next try.
    hurried: Notify,
}

struct Entry {
    commands: mpsc::UnboundedSender<Command>,
    clean_up: Option<CleanUp>,
    /// Whoever runs a further command in it holds one.
    execs: Arc<Semaphore>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            sandboxes: Mutex::default(),
            slots: Mutex::default(),
            clients: Mutex::default(),
            count: watch::Sender::new(0),
            hurried: Notify::new(),
        }
    }

    /// Adds a sandbox; `None` if its id is there already.
    pub(crate) fn add(&self, id: &SandboxId) -> Option<mpsc::UnboundedReceiver<Command>> {
        let mut sandboxes = self.sandboxes.lock();
        if sandboxes.contains_key(id) {
            return None;
        }
        let (commands, receiver) = mpsc::unbounded_channel();
        sandboxes.insert(
            id.clone(),
            Entry {
                commands,
                clean_up: None,
                execs: Arc::new(Semaphore::new(AT_A_TIME)),
            },
        );
        self.count.send_replace(sandboxes.len());
        Some(receiver)
    }

    /// Forgets a sandbox of which nothing is left.
    pub(crate) fn remove(&self, id: &SandboxId) {
        let mut sandboxes = self.sandboxes.lock();
        sandboxes.remove(id);
        self.clients.lock().remove(id);
        self.count.send_replace(sandboxes.len());
    }

    /// Hands a command to the task of a sandbox. False if there is no such sandbox.
    pub(crate) fn command(&self, id: &SandboxId, command: Command) -> bool {
        let sandboxes = self.sandboxes.lock();
        sandboxes
            .get(id)
            .is_some_and(|entry| entry.commands.send(command).is_ok())
    }

    /// The turns for further commands in a sandbox; `None` if there is no such sandbox.
    pub(crate) fn execs(&self, id: &SandboxId) -> Option<Arc<Semaphore>> {
        Some(Arc::clone(&self.sandboxes.lock().get(id)?.execs))
    }

    /// From now on no further command starts in a sandbox; resolves when those that ran are gone.
    pub(crate) async fn execs_ended(&self, id: &SandboxId) {
        let Some(execs) = self.execs(id) else { return };
        // Refused once this has been done before.
        if execs.acquire_many(AT_A_TIME as u32).await.is_ok() {
            execs.close();
        }
    }

    /// What the first command of a sandbox is spoken with through, once it is there.
    pub(crate) fn expect_streams(&self, id: &SandboxId) -> oneshot::Receiver<Streams> {
        let (client, streams) = oneshot::channel();
        let mut clients = self.clients.lock();
        // Who has gone asks for one that may never be started.
        clients.retain(|_, client| !client.is_closed());
        clients.insert(id.clone(), client);
        streams
    }

    /// There will be nothing to be spoken with through, unless that is there already.
    pub(crate) fn forget_streams(&self, id: &SandboxId) {
        self.clients.lock().remove(id);
    }

    /// A client that is gone leaves it without any.
    pub(crate) fn hand_over(&self, id: &SandboxId, streams: Streams) {
        if let Some(client) = self.clients.lock().remove(id) {
            drop(client.send(streams));
        }
    }

    pub(crate) fn ids(&self) -> HashSet<String> {
        self.sandboxes.lock().keys().map(ToString::to_string).collect()
    }

    pub(crate) fn report_clean_up(&self, clean_up: CleanUp) {
        if let Some(entry) = self.sandboxes.lock().get_mut(&clean_up.id) {
            entry.clean_up = Some(clean_up);
        }
    }

    pub(crate) fn clean_ups(&self) -> Vec<CleanUp> {
        self.sandboxes
            .lock()
            .values()
            .filter_map(|entry| entry.clean_up.clone())
            .collect()
    }

    /// Lets clean-ups that have failed be tried again now.
    pub(crate) fn hurry(&self) {
        self.hurried.notify_waiters();
    }

    /// Resolves at the next [`Registry::hurry`].
    pub(crate) async fn hurried(&self) {
        self.hurried.notified().await;
    }

    /// Resolves when there is no sandbox.
    pub(crate) async fn empty(&self) {
        let mut count = self.count.subscribe();
        // The sender is `self`: it is there as long as this waits.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// What wakes the owner of a slot.
    pub(crate) fn watch_slot(&self, slot: u32) -> Arc<Notify> {
        let woken = Arc::new(Notify::new());
        self.slots.lock().insert(slot, Arc::clone(&woken));
        woken
    }

    pub(crate) fn wake_slot(&self, slot: u32) {
        if let Some(woken) = self.slots.lock().get(&slot) {
            woken.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g17_streams_that_nobody_waits_for_or_that_will_not_be_are_forgotten() {
        let registry = Registry::new();
        let (gone, failed) = (SandboxId::generate(), SandboxId::generate());
        drop(registry.expect_streams(&gone));
        let mut waiting = registry.expect_streams(&failed);
        assert_eq!(registry.clients.lock().keys().collect::<Vec<_>>(), [&failed]);
        registry.forget_streams(&failed);
        assert!(matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }
}
