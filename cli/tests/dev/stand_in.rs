//! What a daemon does as far as `miren dev` can see: takes its lock, says that it is ready, serves, ends on SIGTERM.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Becomes the daemon that the environment names; never returns then.
pub fn run_if_asked() {
    let Ok(role) = env::var("STAND_IN") else { return };
    let config = PathBuf::from(env::var("STAND_IN_CONFIG").unwrap());
    let folder = config.parent().unwrap().to_owned();
    let settings: toml::Table = toml::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    let _lock = if role == "control" {
        Some(control(&folder, &settings))
    } else {
        None
    };
    if role == "proxy" {
        proxy();
    }
    loop {
        nix::unistd::pause();
    }
}

extern "C" fn end(_: libc::c_int) {
    // SAFETY: _exit may be called in a signal handler (signal-safety(7)), and nothing is left to be run after it.
    unsafe { libc::_exit(0) }
}

/// From here on SIGTERM is a clean end; says READY.
fn ready(facts: &str) {
    let handler = nix::sys::signal::SigHandler::Handler(end);
    // SAFETY: the handler only ends the process.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGTERM, handler) }.unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    let message = format!("READY=1\nX_MIREN={facts}");
    socket
        .send_to(message.as_bytes(), env::var("NOTIFY_SOCKET").unwrap())
        .unwrap();
}

fn control(folder: &Path, settings: &toml::Table) -> nix::fcntl::Flock<File> {
    let run_dir = Path::new(settings["run_dir"].as_str().unwrap());
    let path = run_dir.join("control.lock");
    let file = File::create(&path).unwrap();
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    // As with on_stop = "remove": nothing of the run folder outlives the daemon. An unlinked file stays locked.
    std::fs::remove_file(&path).unwrap();
    let pid = std::process::id();
    std::fs::write(folder.join("control.pid"), pid.to_string()).unwrap();
    let server = run_dir.join("control.sock");
    ready(&format!(
        r#"{{"server":"unix:{}","metrics":"127.0.0.1:1","fast_path":"off","fast_path_reason":"a stand-in","pid":{pid}}}"#,
        server.display()
    ));
    lock
}

fn proxy() {
    let pid = std::process::id();
    let given = |name: &str| env::var(name).unwrap();
    assert_eq!(
        (given("LISTEN_PID"), given("LISTEN_FDNAMES")),
        (pid.to_string(), "http".into())
    );
    // SAFETY: by the protocol just checked, descriptor 3 is a listening socket that nobody else here owns.
    let listener = unsafe { TcpListener::from_raw_fd(3) };
    ready(&format!(
        r#"{{"http":"{}","metrics":"127.0.0.1:2","pid":{pid}}}"#,
        listener.local_addr().unwrap()
    ));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0]).unwrap();
            writeln!(stream, "{pid}").unwrap();
        }
    });
}
