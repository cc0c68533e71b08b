//! A fake sandbox of bytes: it keeps each request as it came, and answers with the bytes of a script, however wrong.

use crate::client::PATIENCE;
use crate::stage::{Sandbox, Stage};
use crate::wire;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// One request that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which of the app's connections it came on, from 1.
    pub connection: usize,
    pub head: Vec<u8>,
    /// Without chunk sizes.
    pub body: Vec<u8>,
}

impl Asked {
    /// The request line, without its end.
    pub fn line(&self) -> &[u8] {
        let end = self.head.windows(2).position(|window| window == b"\r\n");
        &self.head[..end.expect("a head has lines")]
    }

    /// What is between the blanks of the request line.
    pub fn target(&self) -> &[u8] {
        let line = self.line();
        let first = line.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
        let last = line.iter().rposition(|byte| *byte == b' ').unwrap_or(line.len());
        &line[first..last]
    }

    pub fn values(&self, name: &str) -> Vec<Vec<u8>> {
        wire::values(&self.head, name)
    }

    pub fn is_head(&self) -> bool {
        self.head.starts_with(b"HEAD ")
    }
}

/// What the app does after a request, one step after the other; then it reads the next request.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Sends this again and again, as fast as it is taken, until nobody is there.
    Flood(Vec<u8>),
    /// Sends this a byte at a time with pauses, again and again, until nobody is there.
    Drip(Vec<u8>),
    /// Waits for a permit of [`State::go`].
    Wait,
    Close,
    Reset,
}

type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

pub struct State {
    script: Box<Script>,
    pub asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// One permit ends one [`Step::Wait`].
    pub go: Semaphore,
    /// Steps that were done, of all connections.
    pub steps: AtomicUsize,
    /// Bytes that [`Step::Flood`] got rid of.
    pub flooded: AtomicUsize,
}

/// A running app. Dropping it closes its listener.
pub struct Echo {
    pub address: SocketAddr,
    pub state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A right answer.
pub fn text(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A right answer, by a server that does not know how long it will be.
pub fn chunked(pieces: &[&str]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces {
        bytes.extend(format!("{:x}\r\n{piece}\r\n", piece.len()).into_bytes());
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

impl Echo {
    pub async fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            go: Semaphore::new(0),
            steps: AtomicUsize::new(0),
            flooded: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// One that answers each request with its target and its body.
    pub async fn plain() -> Self {
        Self::start(|asked| {
            let body = [asked.target(), asked.body.as_slice()].join(&b" "[..]);
            let mut answer = text(String::from_utf8_lossy(&body).trim_end());
            if asked.is_head() {
                let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
                answer.truncate(end.expect("an answer has a head") + 4);
            }
            vec![Step::Send(answer)]
        })
        .await
    }

    /// A stage where it serves, with room for so many requests at once.
    pub async fn on_stage(&self, settings: &str, capacity: u32) -> Stage {
        let stage = Stage::new(settings).await;
        self.grant(&stage, capacity);
        stage
    }

    pub fn grant(&self, stage: &Stage, capacity: u32) -> Sandbox {
        let sandbox = stage.run(self.address);
        stage.grant_lease("shop-v1", sandbox, self.address, capacity);
        sandbox
    }

    pub fn requests(&self) -> usize {
        self.state.asked.lock().len()
    }

    pub fn last(&self) -> Asked {
        self.state
            .asked
            .lock()
            .last()
            .expect("the app was asked nothing")
            .clone()
    }

    /// Targets that were asked for, in order.
    pub fn targets(&self) -> Vec<String> {
        let asked = self.state.asked.lock();
        let target = |asked: &Asked| String::from_utf8_lossy(asked.target()).into_owned();
        asked.iter().map(target).collect()
    }

    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    pub fn steps(&self) -> usize {
        self.state.steps.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        // What is sent apart is to arrive without a wait for what was sent before.
        stream.set_nodelay(true).unwrap();
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
    while let Some((head, body)) = request(&mut stream, &mut unread).await {
        let asked = Asked { connection, head, body };
        let steps = (state.script)(&asked);
        state.asked.lock().push(asked);
        for step in steps {
            if !perform(&mut stream, state, step).await {
                return;
            }
            state.steps.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Whether the connection goes on after a step.
async fn perform(stream: &mut TcpStream, state: &State, step: Step) -> bool {
    match step {
        Step::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
        Step::Flood(bytes) => {
            while stream.write_all(&bytes).await.is_ok() {
                state.flooded.fetch_add(bytes.len(), Ordering::SeqCst);
            }
            false
        }
        Step::Drip(bytes) => {
            let mut endless = bytes.iter().cycle();
            while let Some(byte) = endless.next()
                && stream.write_all(&[*byte]).await.is_ok()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            false
        }
        Step::Wait => {
            let permit = tokio::time::timeout(PATIENCE, state.go.acquire()).await;
            permit.is_ok_and(|permit| permit.map(|permit| permit.forget()).is_ok())
        }
        Step::Close => false,
        Step::Reset => {
            let _ = stream.set_zero_linger();
            false
        }
    }
}

async fn request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let end = find(stream, unread, b"\r\n\r\n").await? + 4;
    let head: Vec<u8> = unread.drain(..end).collect();
    if !wire::values(&head, "expect").is_empty() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    if !wire::values(&head, "transfer-encoding").is_empty() {
        let body = chunks(stream, unread).await?;
        return Some((head, body));
    }
    let length = wire::values(&head, "content-length").into_iter().next();
    let length = length.map_or(0, |length| String::from_utf8_lossy(&length).parse().unwrap());
    let body = exactly(stream, unread, length).await?;
    Some((head, body))
}

async fn chunks(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(stream, unread, b"\r\n").await?;
        let line: Vec<u8> = unread.drain(..end + 2).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).ok()?, 16).ok()?;
        if size == 0 {
            // Lines after the last chunk may come before the empty one.
            while find(stream, unread, b"\r\n").await? > 0 {
                let end = find(stream, unread, b"\r\n").await?;
                unread.drain(..end + 2);
            }
            unread.drain(..2);
            return Some(body);
        }
        let chunk = exactly(stream, unread, size + 2).await?;
        body.extend_from_slice(&chunk[..size]);
    }
}

async fn exactly(stream: &mut TcpStream, unread: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while unread.len() < length {
        more(stream, unread).await?;
    }
    Some(unread.drain(..length).collect())
}

async fn find(stream: &mut TcpStream, unread: &mut Vec<u8>, pattern: &[u8]) -> Option<usize> {
    loop {
        if let Some(at) = unread.windows(pattern.len()).position(|window| window == pattern) {
            return Some(at);
        }
        more(stream, unread).await?;
    }
}

async fn more(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
    unread.extend_from_slice(&buffer[..count]);
    Some(())
}
