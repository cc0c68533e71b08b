//! Decides what the app inside the sandboxes of the tests does: what its arguments say, then what its requests say.
//!
//! The same executable is the helper process of those sandboxes.

use nix::sys::signal::{SigSet, Signal};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

const BLINK: Duration = Duration::from_millis(10);

fn main() {
    miren_sandbox::helper_main_if_asked();
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["listen", address] => {
            on_term_exit();
            serve(address);
        }
        // Does nothing about SIGTERM, as most scripts.
        ["plain", address] => serve(address),
        ["blinking", address] => {
            std::thread::spawn({
                let address = (*address).to_owned();
                move || serve(&address)
            });
            blink()
        }
        ["deaf", address] => {
            // SAFETY: no handler is installed.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            serve(address);
        }
        // Deaf to SIGTERM, and exits with 3 at another signal.
        ["stops", signal, address] => {
            // SAFETY: no handler is installed yet, and this one only calls what a handler may call.
            unsafe {
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::signal(
                    signal.parse().expect("a number"),
                    exit_with_3 as *const () as libc::sighandler_t,
                );
            }
            serve(address);
        }
        ["do", verb, argument] => print!("{}", run(verb, argument)),
        ["crowded", then] => crowd(then == "work"),
        ["exit", code] => {
            println!("about to exit with {code}");
            eprintln!("a complaint");
            std::process::exit(code.parse().expect("a status"));
        }
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["signals", address] => tell_signals(address),
        ["send", process, number] => send(process, number, None),
        ["send", process, number, value] => send(process, number, value.parse().ok()),
        ["memory", mebibytes] => println!("touched {}", touch(mebibytes)),
        _ => panic!("unknown arguments {words:?}"),
    }
}

extern "C" fn exit_now(_: libc::c_int) {
    // SAFETY: _exit may be called in a signal handler.
    unsafe { libc::_exit(0) };
}

extern "C" fn exit_with_3(_: libc::c_int) {
    // SAFETY: _exit may be called in a signal handler.
    unsafe { libc::_exit(3) };
}

fn on_term_exit() {
    // SAFETY: the handler only calls what a handler may call.
    unsafe { libc::signal(libc::SIGTERM, exit_now as *const () as libc::sighandler_t) };
}

/// Serves, and says of each signal that it takes which one it is and what came with it. What stops it is a request.
fn tell_signals(address: &str) {
    // SAFETY: a set of signals is numbers, for which zeros are good.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives as long as the calls. Threads that are started from here on block them too.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
    std::thread::spawn(move || {
        loop {
            // SAFETY: as above; the kernel writes into `info` what there is to know.
            let (signal, value) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let signal = libc::sigwaitinfo(&raw const all, &raw mut info);
                (signal, info.si_value().sival_ptr as usize)
            };
            println!("signal {signal} with {value}");
        }
    });
    serve(address);
}

/// Sends a signal, with a value if there is one.
fn send(process: &str, number: &str, value: Option<usize>) {
    let (process, number) = (process.parse().expect("a process"), number.parse().expect("a signal"));
    // SAFETY: integers; the value is never taken for an address.
    let sent = unsafe {
        match value {
            Some(value) => {
                let sival_ptr = std::ptr::without_provenance_mut(value);
                libc::sigqueue(process, number, libc::sigval { sival_ptr })
            }
            None => libc::kill(process, number),
        }
    };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

/// Blocks SIGTERM half of the time, as a process does that starts one thread after the other.
fn blink() -> ! {
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    loop {
        terminate.thread_block().expect("a signal mask");
        std::thread::sleep(BLINK);
        terminate.thread_unblock().expect("a signal mask");
        std::thread::sleep(BLINK);
    }
}

fn serve(address: &str) {
    let port: u16 = std::env::var("PORT").expect("PORT").parse().expect("a port");
    let listener = TcpListener::bind((address, port)).expect("listening");
    println!("listening on {address}:{port}");
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        std::thread::spawn(move || answer(stream));
    }
}

/// Accepts nothing: one connection fills its queue.
fn crowd(works: bool) -> ! {
    let port: u16 = std::env::var("PORT").expect("PORT").parse().expect("a port");
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("listening");
    // SAFETY: listening again with another backlog is allowed.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0, "a short queue");
    loop {
        let start = Instant::now();
        while works && start.elapsed() < BLINK {
            std::hint::spin_loop();
        }
        std::thread::sleep(BLINK);
    }
}

/// `GET /VERB/ARGUMENT`, answered with one text.
fn answer(mut stream: TcpStream) -> Option<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let (verb, argument) = path.split_once('/').unwrap_or((&path, ""));
    let (status, text) = if verb == "status" {
        (argument, String::new())
    } else {
        ("200", run(verb, argument))
    };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
    .ok()
}

fn run(verb: &str, argument: &str) -> String {
    match verb {
        "list" => listing(&format!("/{argument}")),
        "read" => std::fs::read_to_string(format!("/{argument}")).unwrap_or_else(|error| format!("error: {error}")),
        "write" => said(std::fs::write(format!("/{argument}"), "written")),
        "fill" => said(fill(&format!("/{argument}"))),
        "env" => std::env::vars()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect(),
        "owner" => owner(&format!("/{argument}")),
        "cwd" => std::env::current_dir()
            .map(|dir| dir.display().to_string())
            .unwrap_or_default(),
        "call" => call(argument),
        "syscall" => raw_call(argument),
        "connect" => said(connect(argument)),
        "meet" => said(meet(argument)),
        "bind" => said(TcpListener::bind(argument).map(drop)),
        "unix" => said(UnixStream::connect(format!("/{argument}")).map(drop)),
        "abstract" => {
            said(SocketAddr::from_abstract_name(argument).and_then(|name| UnixStream::connect_addr(&name).map(drop)))
        }
        "print" => {
            println!("{argument}");
            String::new()
        }
        "letters" => letters(argument.parse().expect("a number")),
        "flood" => flood(argument.parse().expect("a number")),
        "memory" => touch(argument),
        "threads" => threads(argument.parse().expect("a number")),
        "exit" => std::process::exit(argument.parse().expect("a status")),
        _ => String::new(),
    }
}

fn said(result: std::io::Result<()>) -> String {
    result.map_or_else(|error| format!("error: {error}"), |()| "ok".to_owned())
}

/// Who owns it, and its mode.
fn owner(path: &str) -> String {
    match std::fs::metadata(path) {
        Ok(found) => format!("{}:{} {:o}", found.uid(), found.gid(), found.mode() & 0o7777),
        Err(error) => format!("error: {error}"),
    }
}

/// Until there is no room.
fn fill(path: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    loop {
        file.write_all(&[1; 64 << 10])?;
    }
}

fn listing(dir: &str) -> String {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return format!("error: cannot list {dir}");
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.join("\n")
}

/// The error number of a system call that a sandbox must not be able to make; 0 if it could.
fn call(name: &str) -> String {
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: each call has valid or null arguments and is expected to be refused.
    let result = unsafe {
        match name {
            "mount" => libc::mount(
                c"none".as_ptr(),
                c"/tmp".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                std::ptr::null(),
            )
            .into(),
            "unshare-user" => libc::unshare(libc::CLONE_NEWUSER).into(),
            "unshare-fs" => libc::unshare(libc::CLONE_FS).into(),
            "ptrace" => libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0),
            "bpf" => libc::syscall(libc::SYS_bpf, 0, nothing, 0),
            "keyctl" => libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0),
            "userfaultfd" => libc::syscall(libc::SYS_userfaultfd, 0),
            "clone3" => libc::syscall(libc::SYS_clone3, nothing, 0),
            "raw-socket" => libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).into(),
            "packet-socket" => libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into(),
            "mknod" => libc::mknod(c"/tmp/mem".as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 1)).into(),
            _ => panic!("unknown call {name}"),
        }
    };
    let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    if result == -1 {
        error.to_string()
    } else {
        "0".to_owned()
    }
}

/// The error number of a system call, given with its arguments as `NUMBER,ARGUMENT,…`; 0 if it succeeded. Pointers are null.
fn raw_call(call: &str) -> String {
    let numbers: Vec<libc::c_long> = call.split(',').map(|word| word.parse().expect("a number")).collect();
    let argument = |index| numbers.get(index).copied().unwrap_or(0);
    // SAFETY: whoever asks passes numbers that are no addresses; where the kernel wants one, it finds null.
    let result = unsafe {
        libc::syscall(
            numbers[0],
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
        )
    };
    match result {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(0).to_string(),
        _ => "0".to_owned(),
    }
}

fn connect(address: &str) -> std::io::Result<()> {
    let address = address.parse().map_err(std::io::Error::other)?;
    TcpStream::connect_timeout(&address, Duration::from_millis(500))?
        .read(&mut [0])
        .map(drop)
}

/// Connects to itself by a name of its own.
fn meet(name: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    TcpStream::connect((name, listener.local_addr()?.port())).map(drop)
}

fn flood(lines: usize) -> String {
    let mut out = std::io::stdout().lock();
    for number in 0..lines {
        writeln!(out, "line {number} {}", "x".repeat(100)).expect("standard output");
    }
    "done".to_owned()
}

/// One line of so many KiB, of letters that have two bytes each, after one that has one.
fn letters(kibibytes: usize) -> String {
    println!("x{}", "é".repeat(kibibytes * 512));
    "done".to_owned()
}

fn touch(mebibytes: &str) -> String {
    let size = mebibytes.parse::<usize>().expect("a number") << 20;
    let memory = vec![1_u8; size];
    std::hint::black_box(&memory);
    size.to_string()
}

/// How many of so many threads could be started.
fn threads(count: usize) -> String {
    let start = || std::thread::Builder::new().spawn(|| std::thread::sleep(Duration::from_secs(5)));
    (0..count).filter(|_| start().is_ok()).count().to_string()
}
