//! Decides how a test gets a fast path of its own, and processes that can be killed.

use std::{
    fmt::Debug,
    io::{ErrorKind, Read},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use miren_loader::{FastPath, FastPathConfig, Mode, SlotReader, SlotSource, State, Word};

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Labs in the kernel at once, however many tests run: it attaches 64 programs of a kind to one cgroup, and no more.
const LABS: usize = 24;
static LABS_IN_KERNEL: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of [`LABS`]. A test holds one at a time.
struct Room;

impl Room {
    fn take() -> Self {
        let (taken, given_back) = &LABS_IN_KERNEL;
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = given_back.wait_while(taken, |taken| *taken >= LABS);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let (taken, given_back) = &LABS_IN_KERNEL;
        *taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        given_back.notify_one();
    }
}

/// A place for one table; everything in it goes away with it.
pub struct Lab {
    folder: tempfile::TempDir,
    pub pin_dir: PathBuf,
    pub cgroup: Option<PathBuf>,
    room: OnceLock<Room>,
}

impl Lab {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pin_dir = format!("/sys/fs/bpf/miren-test-{}-{number}", std::process::id()).into();
        Self {
            folder: tempfile::tempdir().expect("folder"),
            pin_dir,
            cgroup: None,
            room: OnceLock::new(),
        }
    }

    /// A lab whose connect hook covers no process, so that only the packet hook is left.
    pub fn without_connect_hook() -> Self {
        let mut lab = Self::new();
        let cgroup = cgroup_root().join(lab.pin_dir.file_name().expect("a name"));
        std::fs::create_dir(&cgroup).expect("making a cgroup");
        lab.cgroup = Some(cgroup);
        lab
    }

    pub fn config(&self, mode: Mode) -> FastPathConfig {
        let table_file = self.folder.path().join("slots");
        FastPathConfig {
            mode,
            pin_dir: self.pin_dir.clone(),
            table_file,
            capacity: 64,
            cgroup: self.cgroup.clone(),
        }
    }

    /// The fast path of this lab in the kernel. A kernel that cannot do it fails the test with the reason.
    pub fn kernel(&self) -> FastPath {
        self.room.get_or_init(Room::take);
        FastPath::open(self.config(Mode::Kernel)).unwrap_or_else(|error| panic!("these tests need the kernel: {error}"))
    }

    pub fn open(&self, mode: Mode) -> FastPath {
        match mode {
            Mode::Kernel => self.kernel(),
            mode => FastPath::open(self.config(mode)).expect("opening the table"),
        }
    }

    pub fn source(&self, mode: Mode) -> SlotSource {
        match mode {
            Mode::Off => SlotSource::File(self.folder.path().join("slots")),
            _ => SlotSource::Pinned(self.pin_dir.clone()),
        }
    }

    pub fn reader(&self, mode: Mode) -> SlotReader {
        SlotReader::open(&self.source(mode)).expect("a reader")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Ok(entries) = std::fs::read_dir(&self.pin_dir) {
            entries.flatten().for_each(|entry| {
                let _ = std::fs::remove_file(entry.path());
            });
            let _ = std::fs::remove_dir(&self.pin_dir);
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = std::fs::remove_dir(cgroup);
        }
    }
}

pub fn cgroup_root() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroup2 = mounts.find(|fields| fields[2] == "cgroup2").expect("a cgroup2 mount");
    Path::new(cgroup2[1]).to_owned()
}

/// A sandbox's init: a process with a socket, whose other end sees when the kernel closes it.
pub struct Victim {
    child: Child,
    socket: UnixStream,
}

impl Victim {
    pub fn start() -> Self {
        let (socket, theirs) = UnixStream::pair().expect("sockets");
        let theirs: std::os::fd::OwnedFd = theirs.into();
        let child = Command::new("cat")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .expect("starting cat");
        Self { child, socket }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
    }

    /// Blocks until the kernel has closed the victim's socket.
    pub fn wait_for_closed_socket(&mut self) {
        self.socket.set_read_timeout(Some(DEADLINE)).expect("timeout");
        match self.socket.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("instead of the end of the victim's socket: {other:?}"),
        }
    }

    /// Kills it and waits until it is gone altogether.
    pub fn end(mut self) {
        self.kill();
        self.child.wait().expect("wait");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Begins a generation whose init is `pid` and takes it to `state`.
pub fn occupy(fast_path: &FastPath, slot: u32, endpoint: &str, pid: u32, state: State) -> u64 {
    let generation = begin(fast_path, slot, endpoint, state);
    fast_path.register_init(slot, generation, pid).expect("register_init");
    generation
}

/// Begins a generation without a process and takes it to `state`.
pub fn begin(fast_path: &FastPath, slot: u32, endpoint: &str, state: State) -> u64 {
    let generation = fast_path
        .begin(slot, endpoint.parse().expect("endpoint"))
        .expect("begin");
    if state != State::Pending {
        fast_path.advance(slot, generation, state).expect("advance");
    }
    generation
}

/// Looks until `wanted` is seen; says what it saw instead when the deadline is over.
pub fn wait_until<T: Debug + PartialEq>(what: &str, wanted: T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = look();
        if seen == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: wanted {wanted:?}, still see {seen:?}"
        );
        std::thread::yield_now();
    }
}

pub fn word_of(fast_path: &FastPath, slot: u32) -> Word {
    let view = fast_path.slot(slot);
    Word::new(view.generation, view.state)
}

/// Runs a future, with a deadline, on a runtime of its own.
pub fn run<T>(what: &str, future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let result = runtime.block_on(async { tokio::time::timeout(DEADLINE, future).await });
    result.unwrap_or_else(|_| panic!("{what}: nothing within {DEADLINE:?}"))
}
