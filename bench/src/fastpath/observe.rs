//! Decides how the end of a process is noticed: by the mapped word, by a pidfd, or by a message about a pidfd.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    sync::mpsc,
};

use anyhow::{Context, Result};
use miren_loader::{SlotReader, monotonic_ns};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd},
    net::UnixStream,
};

use super::{DEADLINE, SLOT, Victim};

/// Something that notices a death.
pub(super) trait Observer {
    /// Returns when the observer waits for this victim.
    fn arm(&mut self, victim: &Victim, generation: u64) -> Result<()>;

    /// When the death was noticed.
    fn seen(&mut self) -> Result<u64>;
}

/// Keeps this thread, and what it forks, on one CPU, so that an observer has another for itself. A machine without that
/// CPU measures with whatever it has.
pub(super) fn stay_on_cpu(cpu: usize) {
    let mut set = CpuSet::new();
    let _ = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
}

/// The lowest real-time priority: other work on the machine is not what is measured. Without the right to it the times
/// are those of a busy machine.
fn go_before_others() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: a valid record that lives through the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) } != 0 {
        eprintln!("no real-time priority: {}", std::io::Error::last_os_error());
    }
}

fn receive<T>(from: &mpsc::Receiver<T>) -> Result<T> {
    from.recv_timeout(DEADLINE)
        .with_context(|| format!("a death was not noticed within {DEADLINE:?}"))
}

/// Looks at the word all the time, as a proxy under load does.
pub(super) struct Spinner {
    /// Generations to look at.
    wanted: mpsc::Sender<u64>,
    spinning: mpsc::Receiver<()>,
    seen: mpsc::Receiver<u64>,
}

impl Spinner {
    pub(super) fn start(reader: SlotReader) -> Result<Self> {
        let (wanted, generations) = mpsc::channel();
        let (ready, spinning) = mpsc::channel();
        let (send, seen) = mpsc::channel();
        let spin = move || {
            stay_on_cpu(1);
            go_before_others();
            for generation in generations {
                let _ = ready.send(());
                while reader.is_running(SLOT, generation) {
                    std::hint::spin_loop();
                }
                if send.send(monotonic_ns()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("spinner".into())
            .spawn(spin)
            .context("starting the spinner")?;
        Ok(Self { wanted, spinning, seen })
    }
}

impl Observer for Spinner {
    fn arm(&mut self, _: &Victim, generation: u64) -> Result<()> {
        self.wanted.send(generation).context("the spinner has ended")?;
        receive(&self.spinning)
    }

    fn seen(&mut self) -> Result<u64> {
        receive(&self.seen)
    }
}

/// A thread with a runtime, on which tasks wait for pidfds.
struct PidfdThread {
    pidfds: tokio::sync::mpsc::UnboundedSender<OwnedFd>,
    armed: mpsc::Receiver<()>,
}

impl PidfdThread {
    /// `noticed` makes what to do with each death.
    fn start<Work, Done>(noticed: Work) -> Result<Self>
    where
        Work: FnOnce() -> Result<Done> + Send + 'static,
        Done: AsyncFnMut() -> Result<()> + 'static,
    {
        let (pidfds, mut received) = tokio::sync::mpsc::unbounded_channel();
        let (arming, armed) = mpsc::channel();
        let work = async move || -> Result<()> {
            let mut noticed = noticed()?;
            while let Some(pidfd) = received.recv().await {
                // SAFETY: the descriptor is owned by what is registered, so it stays open and the same.
                let pidfd = unsafe { AsyncFd::<OwnedFd>::register_with_interest(pidfd, Interest::READABLE) };
                let pidfd = pidfd.map_err(std::io::Error::from)?;
                arming.send(())?;
                pidfd.readable().await?.retain_ready();
                noticed().await?;
            }
            Ok(())
        };
        spawn_runtime("pidfd", work)?;
        Ok(Self { pidfds, armed })
    }

    fn arm(&self, victim: &Victim) -> Result<()> {
        self.pidfds
            .send(victim.pidfd()?)
            .context("the thread that waits on pidfds has ended")?;
        receive(&self.armed)
    }
}

/// Runs a future on a thread and a runtime of its own; an error ends it, which whoever waits for it notices.
fn spawn_runtime(name: &str, work: impl AsyncFnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("a runtime")?;
    let run = move || {
        stay_on_cpu(1);
        go_before_others();
        if let Err(error) = runtime.block_on(work()) {
            eprintln!("{error:#}");
        }
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map(drop)
        .with_context(|| format!("starting {name}"))
}

/// A task wakes up because the pidfd is readable.
pub(super) struct TaskOnPidfd {
    thread: PidfdThread,
    seen: mpsc::Receiver<u64>,
}

impl TaskOnPidfd {
    pub(super) fn start() -> Result<Self> {
        let (send, seen) = mpsc::channel();
        let thread = PidfdThread::start(move || Ok(async move || Ok(send.send(monotonic_ns())?)))?;
        Ok(Self { thread, seen })
    }
}

impl Observer for TaskOnPidfd {
    fn arm(&mut self, victim: &Victim, _: u64) -> Result<()> {
        self.thread.arm(victim)
    }

    fn seen(&mut self) -> Result<u64> {
        receive(&self.seen)
    }
}

/// A task wakes up because of a pidfd and writes to a socket; another thread, the proxy, reads from it.
pub(super) struct ProxyChannel {
    thread: PidfdThread,
    seen: mpsc::Receiver<u64>,
}

impl ProxyChannel {
    pub(super) fn start() -> Result<Self> {
        let (control, proxy) = StdUnixStream::pair().context("a pair of sockets")?;
        let (send, seen) = mpsc::channel();
        spawn_runtime("proxy", async move || {
            let mut proxy = to_tokio(proxy)?;
            let mut message = [0; 8];
            // Ends with the other side of the socket.
            while proxy.read_exact(&mut message).await.is_ok() {
                send.send(monotonic_ns())?;
            }
            Ok(())
        })?;
        let thread = PidfdThread::start(move || {
            let mut control = to_tokio(control)?;
            Ok(async move || Ok(control.write_all(&u64::from(SLOT).to_ne_bytes()).await?))
        })?;
        Ok(Self { thread, seen })
    }
}

fn to_tokio(socket: StdUnixStream) -> Result<UnixStream> {
    socket.set_nonblocking(true)?;
    Ok(UnixStream::from_std(socket)?)
}

impl Observer for ProxyChannel {
    fn arm(&mut self, victim: &Victim, _: u64) -> Result<()> {
        self.thread.arm(victim)
    }

    fn seen(&mut self) -> Result<u64> {
        receive(&self.seen)
    }
}
