//! Decides how the app of a sandbox is started: by an init that every sandbox is given, and never before it is known which process it is.
//!
//! Both runtimes run this init as the first process, and neither says what it starts. So the process that is to become the app comes
//! to a socket, and the kernel says which one it is. It waits there until its end cannot be missed any more.

use crate::bundle::Shown;
use crate::process::Process;
use crate::runtime::{LaunchError, not_executable, not_found};
use miren_init::gate::{Failure, GO, SOCKET, Said};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The program, which needs nothing of the root that it is run in.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Bytes that it takes of what a sandbox has in memory for what it writes: the program, in pages of up to 64 KiB, its folder and a socket.
pub(crate) const ROOM: u64 = 128 << 10;

/// What a sandbox is to run as its first process, so that this runs `command`.
pub(crate) fn words(command: &[String], replaces: bool) -> Vec<String> {
    let options = replaces.then_some("-r");
    let before = [miren_init::PROGRAM].into_iter().chain(options).chain(["--"]);
    before.map(str::to_owned).chain(command.iter().cloned()).collect()
}

/// Where the process that is to become the app comes to.
#[derive(Debug)]
pub(crate) struct Gate {
    listener: UnixListener,
    socket: PathBuf,
}

/// The process that is to become the app, which waits.
pub(crate) struct Waiting {
    app: Process,
    stream: UnixStream,
    command: String,
}

impl Gate {
    /// Makes the folder of programs and socket, which is to be shown. `place` is in memory that programs can be run from.
    pub(crate) fn make(place: &Path) -> io::Result<(Self, Shown)> {
        let inside = Path::new(miren_init::PROGRAM);
        let (folder, program) = (inside.parent().unwrap_or(inside), place.join(name_of(inside)));
        fs::create_dir(place)?;
        fs::set_permissions(place, Permissions::from_mode(0o755))?;
        fs::write(&program, PROGRAM)?;
        fs::set_permissions(&program, Permissions::from_mode(0o555))?;
        let name = name_of(Path::new(SOCKET));
        // By the number of the folder: the path of a socket is short.
        let opened = fs::File::open(place)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()))?;
        let socket = place.join(name);
        // Whoever the app is. Nobody else gets to this folder.
        fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        let shown = Shown {
            host: place.to_owned(),
            inside: folder.to_owned(),
        };
        Ok((Self { listener, socket }, shown))
    }

    /// Waits for the process that is to become the app, and takes the socket away. None: `init` has ended.
    pub(crate) async fn meet(self, init: &Process, command: &str) -> Result<Option<Waiting>, LaunchError> {
        let listener = tokio::net::UnixListener::from_std(self.listener)?;
        let (stream, _) = tokio::select! {
            come = listener.accept() => come?,
            gone = init.exited() => {
                gone?;
                return Ok(None);
            }
        };
        fs::remove_file(&self.socket)?;
        let pid = stream.peer_cred()?.pid();
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let pid =
            pid.ok_or_else(|| LaunchError::Silent(": the kernel does not say which process is the app's".into()))?;
        let app = Process::open_if_there(pid)?;
        // Asked now: one that waits still is the one that was opened.
        Ok(app.filter(|_| is_open(&stream)).map(|app| Waiting {
            app,
            stream,
            command: command.to_owned(),
        }))
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_open(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let asked = poll(&mut fds, PollTimeout::ZERO);
    asked.is_ok() && fds[0].revents().is_none_or(|seen| !seen.contains(PollFlags::POLLHUP))
}

impl Waiting {
    pub(crate) fn app(&self) -> &Process {
        &self.app
    }

    /// Lets it become the app. Returns when it has, or has ended, which is seen elsewhere.
    ///
    /// # Errors
    /// When the command cannot be executed.
    pub(crate) async fn go(mut self) -> Result<Process, LaunchError> {
        let mut said = Said::default();
        let told = match self.stream.write_all(&[GO]).await {
            Ok(()) => self.stream.read_exact(&mut said).await.ok(),
            Err(_) => None,
        };
        match told.and_then(|_| Failure::heard(said)) {
            Some(failure) => Err(LaunchError::Refused(describe(failure, &self.command))),
            None => Ok(self.app),
        }
    }
}

/// What a user is told about a command that does not run.
fn describe(failure: Failure, command: &str) -> String {
    let of = |number| Errno::from_raw(number).desc();
    match failure {
        Failure::NotFound => not_found(command),
        Failure::NotExecutable => not_executable(command),
        Failure::NoInterpreter => format!(
            "cannot execute {command}: the interpreter in its first line, or the loader that it was built for, is not there; install it \
             in the image, or link the program statically"
        ),
        Failure::Refused(number) => format!("cannot execute {command}: {}", of(number)),
        Failure::NoProcess(number) => format!(
            "no process for {command}: {}; see resources.pids and memory",
            of(number)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_the_program_is_small_and_static() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert!(PROGRAM.len() < 16 << 10, "{} bytes in every sandbox", PROGRAM.len());
        // ET_EXEC, and no program header of an interpreter (PT_INTERP).
        assert_eq!(PROGRAM[16..18], 2_u16.to_ne_bytes());
        let headers = PROGRAM[64..].chunks_exact(56).take(usize::from(PROGRAM[56]));
        assert!(headers.into_iter().all(|header| header[..4] != 3_u32.to_ne_bytes()));
    }

    #[test]
    fn g4_an_image_that_brings_an_init_becomes_it() {
        let command = ["/sbin/init".to_owned(), "-r".to_owned()];
        assert_eq!(words(&command, false), ["/dev/miren/init", "--", "/sbin/init", "-r"]);
        assert_eq!(
            words(&command, true),
            ["/dev/miren/init", "-r", "--", "/sbin/init", "-r"]
        );
    }

    #[test]
    fn g4_what_cannot_run_is_named_with_the_remedy() {
        let told = |failure| describe(failure, "./serve");
        assert_eq!(told(Failure::NotFound), "command not found: ./serve");
        assert!(told(Failure::NotExecutable).starts_with("command not executable: ./serve; set its mode"));
        assert!(told(Failure::NoInterpreter).starts_with("cannot execute ./serve: the interpreter"));
        assert_eq!(told(Failure::Refused(8)), "cannot execute ./serve: Exec format error");
        assert!(told(Failure::NoProcess(11)).contains("resources.pids"));
    }
}
