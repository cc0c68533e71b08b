//! Starts a daemon so that it cannot outlive `miren dev`, with the listening socket it inherits.

use nix::unistd::User;
use std::ffi::{CString, OsString};
use std::fs::OpenOptions;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::{Child, Command};

/// The first inherited socket (SD_LISTEN_FDS_START, sd_listen_fds(3)).
const FIRST_INHERITED: RawFd = 3;
/// Room for the decimal digits of any process id (at most 2^22, proc(5)) and a final NUL.
const PID_ROOM: usize = 11;
const LISTEN_PID: &str = "LISTEN_PID=";

/// What to run, and how.
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    /// In addition to what this process has.
    pub environment: Vec<(OsString, OsString)>,
    /// Gets everything it prints.
    pub log: PathBuf,
    /// Where it says that it is ready.
    pub notify: PathBuf,
    /// As whom it may say so, besides root.
    pub notifier: User,
    /// Handed over under the name `http`.
    pub listener: Option<Arc<TcpListener>>,
    /// What it is called with to serve in the place of a running one, where it can.
    pub takes_over: Option<&'static str>,
    /// Whether it removes things from the machine when told to stop.
    pub cleans_up: bool,
}

impl Program {
    /// Starts it. It gets SIGTERM when this thread ends, and no signal of the terminal.
    pub fn spawn(&self) -> io::Result<Child> {
        self.spawn_with(self.listener.as_ref(), None)
    }

    /// The same in the place of a running one, which has the socket.
    pub fn spawn_successor(&self) -> io::Result<Child> {
        self.spawn_with(None, self.takes_over)
    }

    fn spawn_with(&self, listener: Option<&Arc<TcpListener>>, argument: Option<&str>) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut image = Image::new(self, listener.is_some(), argument)?;
        let listener = listener.map(|listener| listener.as_raw_fd());
        let parent = nix::unistd::getpid();
        let mut command = Command::new(&self.path);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C goes to this process alone, which stops the daemons in order.
        command.process_group(0);
        let last_steps = move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
            if nix::unistd::getppid() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if let Some(listener) = listener {
                inherit(listener)?;
            }
            Err(image.execute())
        };
        // SAFETY: between fork and exec, `last_steps` makes system calls only: it allocates nothing, takes no lock,
        // and touches no memory but its own.
        unsafe { command.pre_exec(last_steps) };
        command.spawn()
    }
}

/// Puts the socket where the protocol expects it, kept open over exec. Descriptor 3 of the parent is taken since the
/// runtime started, so what is replaced here is a copy that exec would have closed.
fn inherit(listener: RawFd) -> io::Result<()> {
    if listener == FIRST_INHERITED {
        // dup2 to itself would leave close-on-exec set.
        // SAFETY: F_SETFD takes an integer and changes nothing but the descriptor's flags.
        return outcome(unsafe { libc::fcntl(listener, libc::F_SETFD, 0) });
    }
    // SAFETY: both are plain descriptor numbers; the copy's close-on-exec flag is off.
    outcome(unsafe { libc::dup2(listener, FIRST_INHERITED) })
}

fn outcome(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Path, arguments and environment in the form execve takes, made before the fork. The protocol wants the child's own
/// process id in its environment, which only the child knows: its digits are filled in there.
struct Image {
    path: CString,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    pid: Option<Box<[u8]>>,
    /// Owns what the pointers above point at.
    _strings: Vec<CString>,
}

// SAFETY: the pointers point into heap memory that the same value owns and nobody else changes.
unsafe impl Send for Image {}
// SAFETY: as above; a shared `Image` has no way to be changed.
unsafe impl Sync for Image {}

impl Image {
    fn new(program: &Program, inherits: bool, argument: Option<&str>) -> io::Result<Self> {
        let path = c_string(program.path.clone().into_os_string())?;
        let mut arguments = vec![c_string(program.path.clone().into_os_string())?];
        for argument in program.arguments.iter().cloned().chain(argument.map(OsString::from)) {
            arguments.push(c_string(argument)?);
        }
        let environment = environment(program, inherits)?;
        let pid = inherits.then(|| {
            let mut variable = LISTEN_PID.as_bytes().to_vec();
            variable.resize(LISTEN_PID.len() + PID_ROOM, 0);
            variable.into_boxed_slice()
        });
        let mut environment_pointers: Vec<_> = environment.iter().map(|variable| variable.as_ptr()).collect();
        environment_pointers.extend(pid.as_ref().map(|variable| variable.as_ptr().cast::<libc::c_char>()));
        environment_pointers.push(std::ptr::null());
        let mut argument_pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        argument_pointers.push(std::ptr::null());
        arguments.extend(environment);
        Ok(Self {
            path,
            arguments: argument_pointers,
            environment: environment_pointers,
            pid,
            _strings: arguments,
        })
    }

    /// Becomes the program. Returns only if that fails.
    fn execute(&mut self) -> io::Error {
        if let Some(variable) = &mut self.pid {
            write_digits(std::process::id(), &mut variable[LISTEN_PID.len()..]);
        }
        // SAFETY: all three are NUL-terminated strings, and arrays of such ending with a null pointer, owned by `self`.
        unsafe { libc::execve(self.path.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// This process's environment without what is meant for itself alone, plus the program's.
fn environment(program: &Program, inherits: bool) -> io::Result<Vec<CString>> {
    let meant_for_us = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];
    let replaced = |key: &OsString| program.environment.iter().any(|(name, _)| name == key);
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(key, _)| !meant_for_us.iter().any(|name| key == name) && !replaced(key))
        .collect();
    variables.extend(program.environment.iter().cloned());
    variables.push(("NOTIFY_SOCKET".into(), program.notify.clone().into()));
    if inherits {
        variables.push(("LISTEN_FDS".into(), "1".into()));
        variables.push(("LISTEN_FDNAMES".into(), "http".into()));
    }
    variables.into_iter().map(joined).collect()
}

fn joined((mut variable, value): (OsString, OsString)) -> io::Result<CString> {
    variable.push("=");
    variable.push(value);
    c_string(variable)
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::from)
}

/// Decimal digits, then a NUL; needs no memory but `room`.
fn write_digits(mut number: u32, room: &mut [u8]) {
    let mut digits = [0; PID_ROOM];
    let mut count = 0;
    loop {
        digits[count] = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    for (place, digit) in room.iter_mut().zip(digits[..count].iter().rev()) {
        *place = *digit;
    }
    room[count] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn digits_of_any_process_id_fit() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            let mut room = [b'x'; PID_ROOM];
            write_digits(number, &mut room);
            let text = CStr::from_bytes_until_nul(&room).unwrap().to_str().unwrap();
            assert_eq!(text, number.to_string());
        }
    }

    #[tokio::test]
    async fn a_child_finds_the_socket_its_own_pid_and_its_death_signal() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let log = dir.path().join("log");
        let script = "echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES $NOTIFY_SOCKET $EXTRA; readlink /proc/self/fd/3";
        let program = Program {
            name: "sh".into(),
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("EXTRA".into(), "more".into())],
            log: log.clone(),
            notify: "/n".into(),
            notifier: User::from_uid(nix::unistd::getuid()).unwrap().unwrap(),
            listener: Some(Arc::new(listener)),
            takes_over: None,
            cleans_up: false,
        };
        let mut child = program.spawn().unwrap();
        let pid = child.id().unwrap();
        assert!(child.wait().await.unwrap().success());
        let text = std::fs::read_to_string(log).unwrap();
        let (first, second) = text.split_once('\n').unwrap();
        assert_eq!(first, format!("{pid} {pid} 1 http /n more"));
        assert!(second.starts_with("socket:"), "{second}");
    }
}
