//! A fake sandbox: an HTTP server that names itself, and misbehaves on request.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

/// One request as the app saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which of the app's connections it came on, from 1.
    pub connection: usize,
    pub method: String,
    pub body: usize,
}

#[derive(Debug)]
pub struct State {
    name: String,
    pub seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// Answers to `/partial` that have been sent as far as they go.
    pub halves: AtomicUsize,
    /// One permit lets one request to `/hold` be answered.
    pub release: Semaphore,
    /// Ends the connection of a request to `/let-go`, unanswered.
    pub let_go: Notify,
    /// Ends the streams of `/events` and the bodies of `/partial`.
    pub finish: Notify,
}

/// A running fake app. Dropping it closes its listener.
pub struct App {
    pub address: SocketAddr,
    pub state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl App {
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            halves: AtomicUsize::new(0),
            release: Semaphore::new(0),
            let_go: Notify::new(),
            finish: Notify::new(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    pub fn requests(&self) -> usize {
        self.state.seen.lock().len()
    }

    pub fn last(&self) -> Seen {
        self.state.seen.lock().last().expect("the app saw no request").clone()
    }

    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Closes the listener for good.
    pub async fn stop_listening(mut self) -> Nobody {
        self.task.abort();
        let _ = (&mut self.task).await;
        Nobody::at(self.address)
    }

    /// Connections there have ever been.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

/// An address at which nobody listens, as of an app that has not begun to; nobody else gets it meanwhile.
pub struct Nobody {
    pub address: SocketAddr,
    _kept: TcpSocket,
}

impl Nobody {
    pub fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    fn at(address: SocketAddr) -> Self {
        let kept = TcpSocket::new_v4().unwrap();
        kept.bind(address).unwrap();
        Self {
            address: kept.local_addr().unwrap(),
            _kept: kept,
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
        state.open.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            serve(stream, &state, connection).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(mut stream: TcpStream, state: &State, connection: usize) {
    let mut unread = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut unread).await {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        state.seen.lock().push(Seen {
            connection,
            method,
            body,
        });
        if head.to_ascii_lowercase().contains("\r\nupgrade: websocket") {
            return echo(stream).await;
        }
        let sent = match path.as_str() {
            "/hold" => {
                state.release.acquire().await.unwrap().forget();
                answer(&mut stream, &state.name).await
            }
            "/let-go" => return state.let_go.notified().await,
            // As an app that crashes: the first request of each connection is served, so that it is kept.
            "/break" => return,
            "/events" => return events(&mut stream, state).await,
            "/partial" => return partial(&mut stream, state).await,
            "/head" => answer(&mut stream, &head).await,
            _ => answer(&mut stream, &state.name).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<(String, usize)> {
    let mut buffer = [0; 16 * 1024];
    let end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        unread.extend_from_slice(&buffer[..count]);
    };
    let head = String::from_utf8(unread.drain(..end).collect()).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    while unread.len() < length {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        unread.extend_from_slice(&buffer[..count]);
    }
    unread.drain(..length);
    Some((head, length))
}

async fn answer(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-From: app\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await
}

/// A first event at once, the last one when told.
async fn events(stream: &mut TcpStream, state: &State) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let first = format!("{head}d\r\ndata: first\n\n\r\n");
    if stream.write_all(first.as_bytes()).await.is_ok() {
        state.finish.notified().await;
        let _ = stream.write_all(b"c\r\ndata: last\n\n\r\n0\r\n\r\n").await;
    }
}

/// Half a body, and nothing more until told.
async fn partial(stream: &mut TcpStream, state: &State) {
    if stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        .await
        .is_ok()
    {
        state.halves.fetch_add(1, Ordering::SeqCst);
        state.finish.notified().await;
        let _ = stream.write_all(b"rest").await;
    }
}

async fn echo(mut stream: TcpStream) {
    let accepted = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    if stream.write_all(accepted).await.is_err() {
        return;
    }
    let mut buffer = [0; 1024];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 || stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
