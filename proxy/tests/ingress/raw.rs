//! Fake sandboxes of which a test says what they do with the bytes of a connection, and what they saw of them.

use crate::client::PATIENCE;
use crate::stage::{Sandbox, Stage, becomes};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

/// A request as it reached an app: its head as it was sent, and its body without framing.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

/// What the connections of an app share with the test.
#[derive(Debug)]
pub struct Log {
    /// Requests that arrived whole, for apps that read them so; heads alone for the others.
    pub seen: Mutex<Vec<Request>>,
    /// What no HTTP/1.1 server would take for a request.
    pub broken: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// How often the app came to the point at which it waits for the test.
    pub points: AtomicUsize,
    /// One permit lets one connection go on from there.
    pub go: Semaphore,
    dying: Notify,
    gone: Semaphore,
}

/// A running app. Dropping it closes its listener.
pub struct RawApp {
    pub address: SocketAddr,
    pub log: Arc<Log>,
    task: JoinHandle<()>,
}

/// One connection to an app.
pub struct Conn {
    pub stream: TcpStream,
    pub log: Arc<Log>,
    unread: Vec<u8>,
}

impl Request {
    /// What the request line asks for.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

impl Drop for RawApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawApp {
    /// An app that does `each` with every connection, and closes it then.
    pub async fn start<F, Fut>(each: F) -> Self
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log {
            seen: Mutex::default(),
            broken: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            points: AtomicUsize::new(0),
            go: Semaphore::new(0),
            dying: Notify::new(),
            gone: Semaphore::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&log), each));
        Self { address, log, task }
    }

    /// A well-made server: reads each request whole, by the letter, and answers with its path.
    pub async fn strict() -> Self {
        Self::start(|mut conn| async move {
            while let Some(request) = conn.request().await {
                let path = request.path().to_owned();
                let is_head = request.head.starts_with("HEAD ");
                conn.log.seen.lock().push(request);
                if !conn.answer(&path, is_head).await {
                    return;
                }
            }
        })
        .await
    }

    /// A RUNNING sandbox of it that control grants `capacity` requests to, for `shop-v1`.
    pub fn granted(&self, stage: &Stage, capacity: u32) -> Sandbox {
        let sandbox = stage.run(self.address);
        stage.grant_lease("shop-v1", sandbox, self.address, capacity);
        sandbox
    }

    pub fn seen(&self) -> Vec<Request> {
        self.log.seen.lock().clone()
    }

    /// What was asked for, in the order of arrival.
    pub fn paths(&self) -> Vec<String> {
        self.log
            .seen
            .lock()
            .iter()
            .map(|request| request.path().to_owned())
            .collect()
    }

    /// Connections there have ever been.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    pub fn open_connections(&self) -> usize {
        self.log.open.load(Ordering::SeqCst)
    }

    /// Waits until the app came to its point so many times.
    pub async fn at_point(&self, times: usize) {
        becomes("times at its point", times, || self.log.points.load(Ordering::SeqCst)).await;
    }
}

async fn accept<F, Fut>(listener: TcpListener, log: Arc<Log>, each: F)
where
    F: Fn(Conn) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = log.dying.notified() => break,
        };
        let Ok((stream, _)) = accepted else { return };
        log.connections.fetch_add(1, Ordering::SeqCst);
        log.open.fetch_add(1, Ordering::SeqCst);
        let log = Arc::clone(&log);
        let done = each(Conn {
            stream,
            log: Arc::clone(&log),
            unread: Vec::new(),
        });
        tokio::spawn(async move {
            done.await;
            log.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
    drop(listener);
    log.gone.add_permits(1000);
}

impl Conn {
    /// The next request, with its body; none at the end of the connection, or when it is not by the letter.
    pub async fn request(&mut self) -> Option<Request> {
        let head = self.head().await?;
        let mut request = Request { head, body: Vec::new() };
        let expects = request
            .all("expect")
            .iter()
            .any(|value| value.eq_ignore_ascii_case("100-continue"));
        let is_awaited = expects && !request.head.contains(" HTTP/1.0\r") && self.unread.is_empty();
        if is_awaited && !self.say("HTTP/1.1 100 Continue\r\n\r\n").await {
            return None;
        }
        let lengths: Vec<String> = request.all("content-length").into_iter().map(str::to_owned).collect();
        let codings: Vec<String> = request
            .all("transfer-encoding")
            .into_iter()
            .map(str::to_owned)
            .collect();
        request.body = match (&lengths[..], &codings[..]) {
            ([], []) => Vec::new(),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) && !length.is_empty() => {
                self.bytes(length.parse().unwrap()).await?
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => self.chunks().await?,
            _ => return self.is_broken(&request.head),
        };
        Some(request)
    }

    /// The next head, whatever is in it; a body is left where it is.
    pub async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        Some(String::from_utf8_lossy(&head).into_owned())
    }

    /// Everything up to and including `end`.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                return Some(self.unread.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    /// Reads until `text` has come, and takes nothing of it. None at the end of the connection.
    pub async fn holds(&mut self, text: &str) -> Option<()> {
        while !self.unread.windows(text.len()).any(|window| window == text.as_bytes()) {
            self.more().await?;
        }
        Some(())
    }

    /// So many bytes.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            self.more().await?;
        }
        Some(self.unread.drain(..count).collect())
    }

    async fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        self.unread.extend_from_slice(&buffer[..count]);
        Some(())
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\n").await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let digits = line.strip_suffix("\r\n").unwrap_or("not a chunk");
            let digits = digits.split_once(';').map_or(digits, |(digits, _)| digits);
            let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let Some(size) = usize::from_str_radix(digits, 16).ok().filter(|_| is_hex) else {
                return self.is_broken(&line);
            };
            if size == 0 {
                return self.trailers().await.map(|()| body);
            }
            body.extend(self.bytes(size).await?);
            let end = self.bytes(2).await?;
            if end != b"\r\n" {
                return self.is_broken(&String::from_utf8_lossy(&end));
            }
        }
    }

    /// Trailers are passed over, unless they would mean something in a head.
    async fn trailers(&mut self) -> Option<()> {
        loop {
            let line = self.until(b"\r\n").await?;
            if line == b"\r\n" {
                return Some(());
            }
            let line = String::from_utf8_lossy(&line).to_ascii_lowercase();
            if ["content-length", "transfer-encoding", "host"]
                .iter()
                .any(|name| line.starts_with(name))
            {
                return self.is_broken(&line);
            }
        }
    }

    fn is_broken<T>(&self, what: &str) -> Option<T> {
        self.log.broken.lock().push(what.to_owned());
        None
    }

    /// Notes a head of which the body is not read.
    pub fn note(&self, head: &str) {
        self.log.seen.lock().push(Request {
            head: head.to_owned(),
            body: Vec::new(),
        });
    }

    /// False when the other side is gone.
    pub async fn say(&mut self, bytes: &str) -> bool {
        self.stream.write_all(bytes.as_bytes()).await.is_ok()
    }

    /// An answer of which the other side knows the end.
    pub async fn answer(&mut self, body: &str, is_head: bool) -> bool {
        let length = body.len();
        let body = if is_head { "" } else { body };
        self.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await
    }

    /// Tells the test that the app is at its point, and waits for a permit.
    pub async fn wait(&self) {
        self.log.points.fetch_add(1, Ordering::SeqCst);
        self.log.go.acquire().await.unwrap().forget();
    }

    /// Returns when the other side has closed; anything it still says is dropped.
    pub async fn closed(&mut self) {
        while self.more().await.is_some() {}
    }

    /// As when a process dies, first part: nobody listens any more when this returns.
    pub async fn stop_listening(&self) {
        self.log.dying.notify_one();
        let gone = tokio::time::timeout(PATIENCE, self.log.gone.acquire());
        gone.await
            .expect("the listener stays")
            .expect("it is never closed")
            .forget();
    }

    /// Closes with a reset instead of an end.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}
