//! Decides what all sandboxes of a node share, and how the remains of one are removed.

use crate::bundle::{Processes, SandboxDir};
use crate::cgroup::{Cgroups, View};
use crate::config::NodeConfig;
use crate::logs::{self, Dropped};
use crate::network::{Network, NoPlace, Places};
use crate::order::{SandboxChange, StartOrder};
use crate::outlet::Uses;
use crate::process::Process;
use crate::registry::Registry;
use crate::runtime::Runtime;
use crate::volumes::Volumes;
use miren_api::id::SandboxId;
use miren_fault::Point;
use miren_gate::Gate;
use miren_loader::{Events, FastPath};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// How long a helper may take to end once its sandbox has, and how often its lock is looked at: the kernel offers no
/// event for the release of a lock.
const HELPER_END: Duration = Duration::from_secs(2);
const LOCK_CHECK: Duration = Duration::from_millis(2);

/// One node. Its tasks end when [`Node::stop`] is called; sandboxes go on.
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) network: Network,
    pub(crate) cgroups: Cgroups,
    /// What sandboxes see of theirs.
    pub(crate) view: View,
    /// Groups of what writes the logs of sandboxes.
    pub(crate) writers: Cgroups,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Whether `/app` can be a writable overlay.
    pub(crate) overlay: bool,
    pub(crate) volumes: Volumes,
    pub(crate) registry: Registry,
    /// Whoever boots a sandbox holds one of these.
    pub(crate) boots: Semaphore,
    /// What the node is not removed under.
    pub(crate) uses: Gate<Uses>,
    places: Mutex<Places>,
    /// By sandboxes that are gone.
    dropped: Mutex<Dropped>,
    changes: mpsc::UnboundedSender<SandboxChange>,
    stopped: CancellationToken,
    /// Last: whoever waits until it is let go finds the rest gone, the lock of the disks among it.
    pub(crate) fast_path: Arc<FastPath>,
}

/// What [`Node::new`] needs to have been opened.
pub(crate) struct Parts {
    pub(crate) fast_path: Arc<FastPath>,
    pub(crate) network: Network,
    pub(crate) cgroups: Cgroups,
    pub(crate) view: View,
    pub(crate) writers: Cgroups,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) overlay: bool,
    pub(crate) volumes: Volumes,
    pub(crate) changes: mpsc::UnboundedSender<SandboxChange>,
}

impl Node {
    pub(crate) fn new(config: NodeConfig, parts: Parts) -> Arc<Self> {
        let boots = Semaphore::new(config.boots.get());
        let places = Places::new(config.subnet, parts.fast_path.capacity());
        Arc::new(Self {
            config,
            network: parts.network,
            cgroups: parts.cgroups,
            view: parts.view,
            writers: parts.writers,
            runtime: parts.runtime,
            overlay: parts.overlay,
            volumes: parts.volumes,
            registry: Registry::new(),
            boots,
            uses: Gate::new(0),
            places: Mutex::new(places),
            dropped: Mutex::default(),
            changes: parts.changes,
            stopped: CancellationToken::new(),
            fast_path: parts.fast_path,
        })
    }

    /// Runs a task until it or the node ends.
    pub(crate) fn spawn(&self, name: impl Into<Arc<str>> + 'static, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        miren_log::spawn(name, async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Ends every task where it stands, as a crash of the daemon would.
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Passes exits on to the tasks of the sandboxes.
    pub(crate) fn watch_exits(self: &Arc<Self>, mut events: Events) {
        let node = Arc::clone(self);
        self.spawn("the exits of sandboxes", async move {
            while let Some(transition) = events.next().await {
                node.registry.wake_slot(transition.slot);
            }
        });
    }

    /// Puts the rules of the network back when somebody takes them away.
    pub(crate) fn watch_network(self: &Arc<Self>) {
        let node = Arc::clone(self);
        self.spawn(
            "the rules of the network",
            async move { node.network.watch_rules().await },
        );
    }

    /// Tells control. Control that is gone will read the facts again when it is back.
    pub(crate) fn announce(&self, change: SandboxChange) {
        let _ = self.changes.send(change);
    }

    pub(crate) fn dir(&self, sandbox: &str) -> SandboxDir {
        SandboxDir::new(&self.config.run_dir, sandbox)
    }

    pub(crate) fn log(&self, order: &StartOrder) -> PathBuf {
        logs::file(&self.config.log_dir, &order.app, &order.service_name, &order.id)
    }

    /// What sandboxes wrote faster than they may since this daemon started, and what those had dropped before that live now.
    pub(crate) fn dropped(&self) -> Dropped {
        let mut all = *self.dropped.lock();
        for sandbox in self.registry.ids() {
            all.add(dropped_by(&self.dir(&sandbox)));
        }
        all
    }

    pub(crate) fn take_place(&self) -> Result<(u32, Ipv4Addr), NoPlace> {
        self.places.lock().take(Instant::now())
    }

    /// Gives a place back in which no generation has begun.
    pub(crate) fn give_back_place(&self, slot: u32) {
        self.places.lock().rest(slot, Instant::now());
    }

    /// False if another sandbox has the slot.
    pub(crate) fn occupy_place(&self, slot: u32) -> bool {
        self.places.lock().occupy(slot)
    }

    pub(crate) fn taken_slots(&self) -> Vec<u32> {
        self.places.lock().taken()
    }

    /// Lets slot and address of an ended generation rest, then frees the slot. Until then the packet hook goes on
    /// answering for the address.
    pub(crate) fn rest_place(self: &Arc<Self>, slot: u32, generation: u64, ended: Instant) {
        let until = ended + self.config.quarantine;
        self.places.lock().rest(slot, until);
        let node = Arc::clone(self);
        self.spawn("the rest of a place", async move {
            tokio::time::sleep_until(until.into()).await;
            // Refused if the slot has begun its next life by now, which ends this one as well.
            let _ = node.fast_path.release(slot, generation);
        });
    }

    /// Ends whatever is left of a sandbox and removes it: processes, network, cgroups, its hold on disks, files. All steps are tried; what
    /// is gone already is no error. `slot` is given if the sandbox still owns one.
    ///
    /// # Errors
    /// Everything that failed, in one text.
    pub(crate) async fn clean(&self, sandbox: &str, slot: Option<u32>) -> Result<(), String> {
        let limit = self.config.cleanup_timeout / 2;
        let (forgotten, helper) = match self.cgroups.kill(sandbox, limit).await {
            Ok(()) => (
                self.runtime.forget(&self.dir(sandbox)).await,
                self.end_helper(sandbox).await,
            ),
            Err(error) => (Ok(()), Err(error)),
        };
        self.registry.execs_ended(&SandboxId::from_text(sandbox)).await;
        // Again: until they ended, runtime and helper could still be making something.
        let killed = self.cgroups.kill(sandbox, limit).await;
        let network = self.network.detach(sandbox, slot).await;
        let cgroups = async {
            miren_fault::at(Point::CleanCgroup).await?;
            self.cgroups.remove(sandbox)
        };
        let cgroups = cgroups.await;
        let writer = self.writers.remove_emptied(sandbox, HELPER_END).await;
        let mut failed: Vec<String> = [killed, helper, cgroups, writer]
            .into_iter()
            .filter_map(Result::err)
            .map(|e| e.to_string())
            .collect();
        failed.extend(network.err().map(|error| error.to_string()));
        failed.extend(forgotten.err());
        if failed.is_empty() {
            // Nothing writes to them any more.
            failed.extend(self.volumes.release(sandbox, self.dir(sandbox)).await.err());
        }
        if failed.is_empty() {
            // Last: it tells the next daemon that there is something to clean.
            let dir = self.dir(sandbox);
            let dropped = dropped_by(&dir);
            let remove = move || {
                miren_fault::blocking(Point::CleanFiles)?;
                crate::files::remove_tree(dir.path())
            };
            let removed = tokio::task::spawn_blocking(remove).await;
            let removed = removed.map_err(io::Error::other).and_then(|removed| removed);
            match removed {
                Ok(()) => self.dropped.lock().add(dropped),
                Err(error) => failed.push(format!("removing its files: {error}")),
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(failed.join("; "))
        }
    }

    /// A helper ends with its sandbox, after it has reaped it; one whose daemon is gone before it was told to go on ends
    /// as well. Only one that does not is killed.
    async fn end_helper(&self, sandbox: &str) -> io::Result<()> {
        miren_fault::at(Point::CleanHelper).await?;
        let dir = self.dir(sandbox);
        if wait_unlocked(&dir.lock()).await? {
            return Ok(());
        }
        let recorded: Option<Processes> = crate::files::read_json(&dir.processes())?;
        let found = recorded
            .map(|processes| Process::find(processes.helper))
            .transpose()?
            .flatten();
        if let Some(helper) = found {
            helper.signal(Signal::SIGKILL)?;
        }
        match wait_unlocked(&dir.lock()).await? {
            true => Ok(()),
            false => Err(io::Error::other("the helper process does not end")),
        }
    }
}

fn dropped_by(dir: &SandboxDir) -> Dropped {
    crate::files::read_json(&dir.dropped())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// False if the lock is still held at the end of [`HELPER_END`].
async fn wait_unlocked(lock: &Path) -> io::Result<bool> {
    let deadline = Instant::now() + HELPER_END;
    while crate::files::is_locked(lock)? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOCK_CHECK).await;
    }
    Ok(true)
}
