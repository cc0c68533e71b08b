//! Decides when an app that was asked for has answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Longest wait for a start.
const LIMIT: Duration = Duration::from_secs(20);
/// How often an app is tried that does not listen yet.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// Asks once, and waits for the first byte of an answer, which has to be a good one.
pub fn ask(address: SocketAddr, host: &str) -> anyhow::Result<()> {
    let mut start = [0; 12];
    let stream = TcpStream::connect(address).context("connecting")?;
    request(stream, host, &mut start).context("asking")?;
    anyhow::ensure!(
        &start == b"HTTP/1.1 200",
        "it answered {:?}",
        String::from_utf8_lossy(&start)
    );
    Ok(())
}

/// Asks until it is answered well.
pub fn ask_until_answered(address: SocketAddr, host: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = ask(address, host) {
        if Instant::now() > deadline {
            bail!("nothing answers at {address} within {LIMIT:?}: {error:#}");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn request(mut stream: TcpStream, host: &str, start: &mut [u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET /info HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    stream.read_exact(start)
}
