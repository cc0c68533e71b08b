//! What becomes of real connections, served by an engine of a few lines.

use super::*;
use crate::config::Config;
use crate::life::gate::{Class, Gate};
use crate::metrics::Metrics;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod crowds;
mod ends;
mod parked;
mod shortage;

/// Longer than anything here takes; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A time that no test waits for.
const LONG: Duration = Duration::from_secs(3600);

/// Settings under which no limit of ours is reached.
const ROOMY: &str = "limits.connections = 100000\nlimits.connections_per_ip = 100000";

/// Listeners that echo, between which and the tests there is nothing.
struct Stage {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    gate: Arc<Gate>,
    house: Arc<House>,
    stop: watch::Sender<Door>,
    task: JoinHandle<()>,
}

/// Each byte is a request: `b` begins one that lasts until `e`, `h` is a head that never ends, others begin and end at once.
/// It is answered with itself.
struct Echo {
    limit: Duration,
}

impl Server for Echo {
    fn serve(self: &Arc<Self>, connection: Connection) {
        let echo = Arc::clone(self);
        miren_log::spawn("an echo", async move { echo.run(connection).await });
    }
}

impl Echo {
    async fn run(&self, connection: Connection) {
        let Connection { mut stream, place, .. } = connection;
        let mut is_busy = false;
        loop {
            if !is_busy && place.next(&stream, self.limit).await != Next::Request {
                return;
            }
            let mut byte = [0];
            if stream.read_exact(&mut byte).await.is_err() {
                return;
            }
            if byte == *b"h" {
                place.needed().await;
                return;
            }
            if !is_busy {
                place.begins();
            }
            is_busy = byte == *b"b";
            if !is_busy {
                place.ends();
            }
            if stream.write_all(&byte).await.is_err() {
                return;
            }
        }
    }
}

impl Stage {
    fn new(settings: &str) -> Self {
        Self::within(settings, LONG)
    }

    /// `limit` is the time between two bytes.
    fn within(settings: &str, limit: Duration) -> Self {
        let config = Config::parse(Path::new("proxy.toml"), settings).unwrap();
        let (metrics, gate) = (Arc::new(Metrics::new().unwrap()), Arc::new(Gate::default()));
        let house = House::new(&config.limits, config.trusted, Arc::clone(&gate), Arc::clone(&metrics));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(Door::Open);
        let task = listen(vec![listener], Arc::clone(&house), Arc::new(Echo { limit }), stopped).unwrap();
        Self {
            address,
            metrics,
            gate,
            house,
            stop,
            task,
        }
    }

    /// As the proxy does: what is under way is counted down to its end, and nobody new is let in.
    fn stops(&self) {
        self.gate.close();
        self.stop.send_replace(Door::Shut);
    }

    async fn client(&self) -> Client {
        self.client_of("127.0.0.1").await
    }

    /// One with an address of its own: all of 127.0.0.0/8 is this machine's.
    async fn client_of(&self, address: &str) -> Client {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let stream = tokio::time::timeout(PATIENCE, socket.connect(self.address));
        Client(stream.await.expect("not connected in time").unwrap())
    }

    /// Silent ones, all of which have a place.
    async fn silent(&self, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.client().await);
            self.accepted(clients.len()).await;
        }
        clients
    }

    /// Waits until at least so many have been let in.
    async fn accepted(&self, count: usize) {
        becomes("accepted", || {
            let seen = self.metrics.connections.get() as usize;
            (seen >= count, seen)
        })
        .await;
    }

    /// Connects from the thread that accepts: nothing is accepted meanwhile.
    fn connect(&self, count: usize) -> Vec<std::net::TcpStream> {
        let connect = |_| std::net::TcpStream::connect(self.address).unwrap();
        (0..count).map(connect).collect()
    }

    async fn open(&self, count: i64) {
        becomes("open", || {
            let seen = self.metrics.open_connections.get();
            (seen == count, seen)
        })
        .await;
    }

    async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it goes on")
            .unwrap();
    }
}

/// Set in the process that has the limit.
const ALONE: &str = "MIREN_TEST_ALONE";

/// Runs a test in a process where nothing else does: it begins itself once more.
fn alone(work: impl Future<Output = ()>) {
    if std::env::var_os(ALONE).is_some() {
        // One thread: nothing is accepted while the test prepares something.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.unwrap().block_on(work);
    }
    let name = std::thread::current().name().expect("the test's name").to_owned();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1");
    let done = again.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

struct Client(TcpStream);

impl Client {
    /// Sends a byte and gets it back; false if the connection is closed.
    async fn asks(&mut self, byte: u8) -> bool {
        self.sends(byte).await && self.gets(byte).await
    }

    async fn sends(&mut self, byte: u8) -> bool {
        self.0.write_all(&[byte]).await.is_ok()
    }

    async fn gets(&mut self, wanted: u8) -> bool {
        let mut byte = [0];
        let got = tokio::time::timeout(PATIENCE, self.0.read(&mut byte));
        match got.await.expect("nothing came, and it stays open") {
            Ok(1) => byte == [wanted],
            _ => false,
        }
    }

    /// Waits until the other side has closed.
    async fn closes(mut self) {
        assert!(!self.gets(0).await, "closed without a word");
    }
}

/// Waits until `seen` says so.
async fn becomes<T: std::fmt::Debug>(what: &str, mut seen: impl FnMut() -> (bool, T)) {
    let begun = Instant::now();
    loop {
        let (is_so, found) = seen();
        if is_so {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} is {found:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
