//! What each path answers.

use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Duration;
use std::{env, process};

use crate::identity::{Identity, monotonic_ns, quote};
use crate::request::{Framing, Request};
use crate::websocket;

const JSON: &str = "application/json";
/// Piece in which `/big` is written.
static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

/// Answers one request; false when the connection ends with it.
pub fn answer(
    request: &Request,
    reader: &mut impl BufRead,
    writer: &mut impl Write,
    identity: &Identity,
) -> io::Result<bool> {
    if request.path() == "/echo" {
        echo(request, reader, writer)?;
        return Ok(!request.wants_close());
    }
    request.body(reader, |_| Ok(()))?;
    match request.path() {
        "/" | "/info" => whole(writer, "200 OK", JSON, &identity.json())?,
        "/env" => whole(writer, "200 OK", JSON, &environment())?,
        "/sleep" => {
            let began_ns = monotonic_ns();
            thread::sleep(Duration::from_millis(request.number("ms", 1000)));
            whole(writer, "200 OK", JSON, &identity.json_held(began_ns, monotonic_ns()))?;
        }
        "/sse" => events(request, writer, identity)?,
        "/big" => big(request, writer)?,
        "/ws" => {
            websocket::serve(request, reader, writer)?;
            return Ok(false);
        }
        "/crash" => {
            identity.log("crashing with code 3");
            process::exit(3);
        }
        _ => whole(writer, "404 Not Found", "text/plain", "no such path\n")?,
    }
    Ok(!request.wants_close())
}

fn whole(writer: &mut impl Write, status: &str, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    writer.write_all(answer.as_bytes())
}

fn environment() -> String {
    let pairs: Vec<String> = env::vars()
        .map(|(key, value)| format!("{}:{}", quote(&key), quote(&value)))
        .collect();
    format!("{{{}}}\n", pairs.join(","))
}

/// Sends the body back as it comes, framed as it came.
fn echo(request: &Request, reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<()> {
    let framing = match request.framing() {
        Framing::Length(length) => format!("Content-Length: {length}"),
        Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    write!(
        writer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n"
    )?;
    let chunked = request.framing() == Framing::Chunked;
    request.body(reader, |piece| {
        if chunked {
            chunk(writer, piece)
        } else {
            writer.write_all(piece)
        }
    })?;
    if chunked {
        writer.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

fn chunk(writer: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
    framed.extend_from_slice(piece);
    framed.extend_from_slice(b"\r\n");
    writer.write_all(&framed)
}

/// Server-sent events, each with the time at which it was flushed.
fn events(request: &Request, writer: &mut impl Write, identity: &Identity) -> io::Result<()> {
    writer.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
          Transfer-Encoding: chunked\r\n\r\n",
    )?;
    let gap = Duration::from_millis(request.number("gap_ms", 100));
    for n in 0..request.number("n", 10) {
        if n > 0 {
            thread::sleep(gap);
        }
        let at = monotonic_ns();
        let event = format!(
            "data: {{\"n\":{n},\"at_ns\":{at},\"sandbox\":{}}}\n\n",
            quote(&identity.sandbox)
        );
        chunk(writer, event.as_bytes())?;
    }
    writer.write_all(b"0\r\n\r\n")
}

fn big(request: &Request, writer: &mut impl Write) -> io::Result<()> {
    let mut left = request.number("bytes", 1 << 20);
    write!(
        writer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {left}\r\n\r\n"
    )?;
    while left > 0 {
        let length = PIECE.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        writer.write_all(&PIECE[..length])?;
        left -= length as u64;
    }
    Ok(())
}
