//! Decides how a test talks with the app in a sandbox.

use crate::node::SOON;
use miren_sandbox::SandboxChange;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Asks the app in a sandbox to do something; its answer.
pub fn ask(sandbox: &SandboxChange, path: &str) -> String {
    try_ask(sandbox, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

pub fn try_ask(sandbox: &SandboxChange, path: &str) -> std::io::Result<String> {
    ask_on(connect(sandbox)?, path)
}

pub fn connect(sandbox: &SandboxChange) -> std::io::Result<TcpStream> {
    TcpStream::connect((
        sandbox.facts.ip.expect("an address"),
        sandbox.facts.port.expect("a port"),
    ))
}

/// Uses a connection that is open already.
pub fn ask_on(mut stream: TcpStream, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET /{path} HTTP/1.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other(format!("no answer but {answer:?}")))
}
