//! Decides what control may do to the slot table, the same in the kernel and in a file.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use miren_abi::{ChangedBy, EXIT_CODE_UNKNOWN, SlotRef, State};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::{
    config::{ActiveMode, FastPathConfig, Mode},
    error::{AttachError, EventError, OpenError, SlotError},
    events::{Events, Transition},
    identity::TableId,
    kernel::{Counters, Kernel},
    process,
    status::{SlotCounts, Status, TransitionCounts},
    table::{SlotView, Table, address_key, file},
    watch::Watch,
};

/// Changes that a listener may lag behind before it has to read the table instead.
const TRANSITIONS: usize = 1024;

/// The slot table as control sees it: the only user-space writer.
#[derive(Debug)]
pub struct FastPath {
    config: FastPathConfig,
    reason: Option<String>,
    table: Arc<Table>,
    side: Side,
    /// `begin` and `release` change several things; this makes each one step.
    writer: Mutex<()>,
    by_control: AtomicU64,
    transitions: broadcast::Sender<Transition>,
}

/// What knows about the table besides the table itself.
#[derive(Debug)]
enum Side {
    Kernel(Kernel),
    Off {
        watch: Watch,
        exits: Mutex<Option<tokio::sync::mpsc::Receiver<Transition>>>,
    },
}

impl FastPath {
    /// Makes the table, or adopts the one an earlier daemon left, with all that runs in it. In the kernel the programs
    /// are replaced by this build's without a moment in which none is attached. The calling thread's network namespace is
    /// the node's: what opens connections to sandboxes there is refused where they take none.
    ///
    /// # Errors
    /// When the table cannot be made, or when it is there and belongs to another release or another capacity.
    pub fn open(config: FastPathConfig) -> Result<Self, OpenError> {
        match config.mode {
            Mode::Off => Self::open_off(config, None),
            Mode::Kernel => Self::open_kernel(config),
            Mode::Auto => match Self::open_kernel(config.clone()) {
                // A table that is there and cannot be adopted is never passed over: its hooks would keep acting on it.
                Err(error) if error.allows_off() && !Kernel::has_table(&config.pin_dir) => {
                    let reason = error.to_string();
                    tracing::warn!(%reason, "the fast path is off: a sandbox that exits leaves routing later");
                    Self::open_off(config, Some(reason))
                }
                opened => opened,
            },
        }
    }

    fn open_kernel(config: FastPathConfig) -> Result<Self, OpenError> {
        let (kernel, table) = Kernel::open(&config)?;
        // A table file would be of an earlier, slower life; nobody writes it any more.
        remove_if_there(&config.table_file).map_err(OpenError::io("removing", &config.table_file))?;
        Ok(Self::new(config, None, Arc::new(table), Side::Kernel(kernel)))
    }

    fn open_off(config: FastPathConfig, reason: Option<String>) -> Result<Self, OpenError> {
        // Hooks of an earlier, faster life would act on words nobody writes any more.
        Kernel::remove_pins(&config.pin_dir).map_err(OpenError::io("removing the pins in", &config.pin_dir))?;
        let table = Arc::new(file::open_or_create(&config.table_file, config.capacity)?);
        let (watch, exits) =
            Watch::start(Arc::clone(&table)).map_err(OpenError::io("watching the processes of", &config.table_file))?;
        let side = Side::Off {
            watch,
            exits: Mutex::new(Some(exits)),
        };
        Ok(Self::new(config, reason, table, side))
    }

    fn new(config: FastPathConfig, reason: Option<String>, table: Arc<Table>, side: Side) -> Self {
        Self {
            config,
            reason,
            table,
            side,
            writer: Mutex::new(()),
            by_control: AtomicU64::new(0),
            transitions: broadcast::Sender::new(TRANSITIONS),
        }
    }

    /// What is in use.
    pub fn mode(&self) -> ActiveMode {
        match self.side {
            Side::Kernel(_) => ActiveMode::Kernel,
            Side::Off { .. } => ActiveMode::Off,
        }
    }

    /// Why `auto` did not get the kernel.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Which table this is: the same for whoever adopts it, and for its readers.
    pub fn table(&self) -> &TableId {
        self.table.slots().id()
    }

    /// Number of slots.
    pub fn capacity(&self) -> u32 {
        self.table.slots().capacity()
    }

    /// What a slot says now; FREE of generation 0 for one that does not exist.
    pub fn slot(&self, slot: u32) -> SlotView {
        self.table.slots().view(slot)
    }

    /// FREE, STOPPED or DEAD → PENDING of the next generation, which is returned; the address is published to the hooks.
    ///
    /// # Errors
    /// [`SlotError::Refused`] while the slot is in use; nothing is changed by an error.
    pub fn begin(&self, slot: u32, endpoint: SocketAddr) -> Result<u64, SlotError> {
        let _writer = self.writer.lock();
        let found = self.table.cells(slot)?.word();
        let next = found.begin().ok_or(SlotError::Refused { found })?;
        if let Side::Kernel(kernel) = &self.side {
            self.forget(kernel, slot)?;
            let owner = SlotRef::new(slot, next.generation());
            // Until the word follows, this generation is not the slot's and the address passes as unknown.
            kernel
                .set_address(address_key(endpoint.ip()), owner)
                .map_err(SlotError::kernel("publishing the address"))?;
        }
        let (generation, at_ns) = self.table.begin(slot, endpoint)?;
        self.changed(slot, generation, State::Pending, at_ns);
        Ok(generation)
    }

    /// Names the init process of a live generation, so that its exit ends it. May be repeated, as after a restart, and with another
    /// process, which counts in the place of the one before.
    ///
    /// # Errors
    /// [`SlotError::AlreadyExited`] if the process was gone or going; the word has then been moved to its end.
    pub fn register_init(&self, slot: u32, generation: u64, tgid: u32) -> Result<(), SlotError> {
        let started = process::started(tgid).unwrap_or(0);
        self.replace_init(slot, generation, tgid)?;
        self.table.set_init(slot, generation, tgid, started)?;
        let pidfd = match process::open(tgid) {
            Ok(pidfd) => pidfd,
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH) => return Err(self.already_exited(slot, generation, tgid)),
                Some(libc::EINVAL | libc::ENOENT) => return Err(SlotError::NotAProcess { tgid }),
                _ => return Err(SlotError::kernel("watching the process")(error)),
            },
        };
        let owner = SlotRef::new(slot, generation);
        if let Side::Kernel(kernel) = &self.side {
            kernel
                .set_namespace(&pidfd, owner)
                .map_err(SlotError::kernel("registering the network namespace of the process"))?;
            kernel
                .set_pid(tgid, owner)
                .map_err(SlotError::kernel("registering the process"))?;
        }
        // Asked only now: a process that is still alive here will find the entry when it exits.
        let exiting = process::is_exiting(tgid);
        let exited = process::has_exited(&pidfd).map_err(SlotError::kernel("watching the process"))?;
        if exiting || exited {
            if let Side::Kernel(kernel) = &self.side {
                kernel
                    .forget_pid(tgid, owner)
                    .map_err(SlotError::kernel("forgetting the process"))?;
            }
            return Err(self.already_exited(slot, generation, tgid));
        }
        if let Side::Off { watch, .. } = &self.side {
            watch
                .add(pidfd, slot, generation, tgid)
                .map_err(SlotError::kernel("watching the process"))?;
        }
        Ok(())
    }

    /// Each generation has one process in the map, which has as many places as there are slots. Nobody misses the end of the one before:
    /// whoever is named next is looked at after it is in the map.
    fn replace_init(&self, slot: u32, generation: u64, tgid: u32) -> Result<(), SlotError> {
        let before = self.slot(slot);
        match &self.side {
            Side::Kernel(kernel) if before.generation == generation && before.tgid != 0 && before.tgid != tgid => {
                kernel
                    .forget_pid(before.tgid, SlotRef::new(slot, generation))
                    .map_err(SlotError::kernel("forgetting the process before it"))
            }
            _ => Ok(()),
        }
    }

    fn already_exited(&self, slot: u32, generation: u64, tgid: u32) -> SlotError {
        if let Some((state, at_ns)) = self.table.exited(slot, generation, EXIT_CODE_UNKNOWN) {
            self.changed(slot, generation, state, at_ns);
        }
        SlotError::AlreadyExited { tgid }
    }

    /// Moves a generation down the list of states and says where it was.
    ///
    /// # Errors
    /// [`SlotError::Refused`] with what was found: another generation, an end, or a state that is not above `to`.
    pub fn advance(&self, slot: u32, generation: u64, to: State) -> Result<State, SlotError> {
        let (from, at_ns) = self.table.advance(slot, generation, to)?;
        self.changed(slot, generation, to, at_ns);
        Ok(from)
    }

    /// Counts and tells what control changed.
    fn changed(&self, slot: u32, generation: u64, state: State, at_ns: u64) {
        self.by_control.fetch_add(1, Ordering::Relaxed);
        // Nobody has to listen.
        let _ = self.transitions.send(Transition {
            slot,
            generation,
            state,
            at_ns,
            by: ChangedBy::Control,
            exit_code: EXIT_CODE_UNKNOWN,
            tgid: self.slot(slot).tgid,
        });
    }

    /// STOPPED or DEAD → FREE. The hooks forget its address and its process, unless they are another slot's by now.
    ///
    /// # Errors
    /// [`SlotError::Refused`] unless exactly this generation has ended.
    pub fn release(&self, slot: u32, generation: u64) -> Result<(), SlotError> {
        let _writer = self.writer.lock();
        self.table.check_ended(slot, generation)?;
        if let Side::Kernel(kernel) = &self.side {
            self.forget(kernel, slot)?;
        }
        let at_ns = self.table.release(slot, generation)?;
        self.changed(slot, generation, State::Free, at_ns);
        Ok(())
    }

    /// Takes what the hooks know about the slot's last life away from them.
    fn forget(&self, kernel: &Kernel, slot: u32) -> Result<(), SlotError> {
        let last = self.slot(slot);
        let owner = SlotRef::new(slot, last.generation);
        if let Some(endpoint) = last.endpoint {
            let key = address_key(endpoint.ip());
            kernel
                .forget_address(key, owner)
                .map_err(SlotError::kernel("forgetting the address"))?;
        }
        kernel
            .forget_namespace(slot)
            .map_err(SlotError::kernel("forgetting the network namespace"))?;
        if last.tgid != 0 {
            kernel
                .forget_pid(last.tgid, owner)
                .map_err(SlotError::kernel("forgetting the process"))?;
        }
        Ok(())
    }

    /// Puts the packet hook on an interface of this thread's network namespace, usually the bridge. To be called again
    /// when the interface was made anew. Does nothing without the kernel.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn attach_packet_hook(&self, interface: &str) -> Result<(), AttachError> {
        match &self.side {
            Side::Kernel(kernel) => kernel.attach_packet_hook(interface),
            Side::Off { .. } => Ok(()),
        }
    }

    /// The exits from now on, and those nobody has read yet. There is one reader.
    ///
    /// # Errors
    /// [`EventError::AlreadyRead`] the second time.
    pub fn events(&self) -> Result<Events, EventError> {
        let told = self.transitions.clone();
        match &self.side {
            Side::Kernel(kernel) => kernel.take_events().map(|ring| Events::from_ring(ring, told)),
            Side::Off { exits, .. } => exits
                .lock()
                .take()
                .map(|exits| Events::from_channel(exits, told))
                .ok_or(EventError::AlreadyRead),
        }
    }

    /// Every change from now on: control's own, and each exit once [`Events`] has been read that far. Of two changes made
    /// at the same time by different hands either may come first: [`Transition::at_ns`] tells. A receiver that lags reads
    /// [`FastPath::in_use`] instead.
    pub fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.subscribe()
    }

    /// The latest change of every slot that is not FREE.
    pub fn in_use(&self) -> Vec<Transition> {
        let views = (0..self.capacity()).map(|slot| (slot, self.slot(slot)));
        views
            .filter(|(_, view)| view.state != State::Free)
            .map(|(slot, view)| Transition::latest(slot, &view))
            .collect()
    }

    /// What an operator sees.
    pub fn status(&self) -> Status {
        let slots = self.table.slots();
        let used = (0..slots.capacity())
            .filter(|slot| slots.word(*slot).state() != State::Free)
            .count();
        let (counters, programs) = match &self.side {
            Side::Kernel(kernel) => (kernel.counters(), kernel.programs()),
            Side::Off { watch, .. } => {
                let (by_watch, dropped_events) = watch.counts();
                (
                    Counters {
                        by_watch,
                        dropped_events,
                        ..Counters::default()
                    },
                    Vec::new(),
                )
            }
        };
        Status {
            mode: self.mode(),
            reason: self.reason.clone(),
            pin_dir: matches!(self.side, Side::Kernel(_)).then(|| self.config.pin_dir.clone()),
            abi: miren_abi::VERSION,
            programs,
            slots: SlotCounts {
                used: u32::try_from(used).unwrap_or(u32::MAX),
                capacity: slots.capacity(),
            },
            transitions: TransitionCounts {
                by_kernel: counters.transitions,
                by_control: self.by_control.load(Ordering::Relaxed) + counters.by_watch,
            },
            refused_connects: counters.refused_connects,
            reset_packets: counters.reset_packets,
            dropped_events: counters.dropped_events,
        }
    }

    /// Detaches and unpins everything, or removes the file. For a machine that is given back, and for tests.
    ///
    /// # Errors
    /// When a pin or the file cannot be removed; what could be is gone.
    pub fn remove(&self) -> io::Result<()> {
        match &self.side {
            Side::Kernel(_) => Kernel::remove_pins(&self.config.pin_dir),
            Side::Off { .. } => remove_if_there(&self.config.table_file),
        }
    }
}

fn remove_if_there(path: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
