//! A web app for tests: it tells who it is, streams, echoes, and misbehaves on demand.

use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, process, thread};

use nix::sys::signal::{SigSet, Signal};

mod endpoints;
mod identity;
mod request;
mod websocket;

use identity::Identity;
use request::Request;

fn main() -> io::Result<()> {
    let identity = Identity::of_this_process();
    if switched_on("EXIT_AT_START") {
        eprintln!("EXIT_AT_START is set: exiting with code 1");
        process::exit(1);
    }
    stop_on_sigterm(identity.clone());
    if switched_on("NEVER_LISTEN") {
        identity.log("NEVER_LISTEN is set: not listening");
        loop {
            thread::park();
        }
    }
    if let Some(delay) = env::var("START_DELAY_MS").ok().and_then(|text| text.parse().ok()) {
        thread::sleep(Duration::from_millis(delay));
    }
    let port = env::var("PORT")
        .ok()
        .and_then(|text| text.parse::<u16>().ok())
        .unwrap_or(3000);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    identity.log(&format!("listening on port {}", listener.local_addr()?.port()));
    for stream in listener.incoming() {
        let identity = identity.clone();
        // Each connection has its thread; a client that leaves in the middle is its own affair.
        thread::spawn(move || stream.and_then(|stream| serve(stream, &identity)));
    }
    Ok(())
}

fn switched_on(name: &str) -> bool {
    env::var(name).is_ok_and(|value| value == "1")
}

/// The first process of a pid namespace gets no default action for SIGTERM, so it is waited for. Called before any
/// other thread exists: they inherit the blocked signal.
fn stop_on_sigterm(identity: Identity) {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    if let Err(error) = term.thread_block() {
        eprintln!("cannot block SIGTERM: {error}");
        return;
    }
    let ignored = switched_on("IGNORE_SIGTERM");
    thread::spawn(move || {
        while term.wait().is_ok() {
            identity.log(if ignored { "SIGTERM ignored" } else { "SIGTERM: exiting" });
            if !ignored {
                process::exit(0);
            }
        }
    });
}

fn serve(stream: TcpStream, identity: &Identity) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = Request::read(&mut reader)? {
        identity.log_request(&request);
        if !endpoints::answer(&request, &mut reader, &mut writer, identity)? {
            break;
        }
    }
    Ok(())
}
