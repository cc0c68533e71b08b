//! One keepalive connection: takes the next request that is due, sends it, and books how it went.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use hdrhistogram::Histogram;
use http::header::HOST;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::report::{Answer, Cause, Lost};
use super::{HIGHEST_US, Options, Seen, Shared, Timetable, empty_histogram};

type Connection = http1::SendRequest<Full<Bytes>>;

pub struct Sender {
    options: Arc<Options>,
    address: SocketAddr,
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Sender {
    pub fn new(options: Arc<Options>, address: SocketAddr, shared: Arc<Shared>) -> Self {
        Self {
            options,
            address,
            shared,
            connection: None,
        }
    }

    /// Sends until the timetable has ended; returns the latencies of the answers that were in order, in µs.
    pub async fn run(mut self, timetable: Timetable) -> anyhow::Result<Histogram<u64>> {
        let mut latencies = empty_histogram()?;
        let shared = self.shared.clone();
        loop {
            shared
                .due
                .acquire()
                .await
                .context("waiting for the next request")?
                .forget();
            let Some(index) = shared.tally.take() else {
                return Ok(latencies);
            };
            let meant = timetable.at(index);
            let limit = self.options.timeout;
            let outcome = tokio::time::timeout(limit, self.exchange(meant)).await;
            let outcome =
                outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {limit:?}")).lost(Cause::TimedOut));
            if outcome.is_err() {
                self.connection = None;
            }
            let since_start = meant.duration_since(timetable.start);
            if shared.tally.book(since_start, outcome) {
                let micros = u64::try_from(Instant::now().duration_since(meant).as_micros()).unwrap_or(HIGHEST_US);
                latencies.saturating_record(micros.clamp(1, HIGHEST_US));
            }
        }
    }

    /// One request and its whole answer; nothing is tried twice.
    async fn exchange(&mut self, due: Instant) -> Result<Answer, Lost> {
        let request = self.request().lost(Cause::Wrong)?;
        let (mut connection, end) = match self.kept().await {
            Some(kept) => (kept, Cause::ClosedKept),
            None => (self.connect().await.lost(Cause::Refused)?, Cause::Cut),
        };
        let sent = Instant::now();
        let response = match connection.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut closed) => match closed.take_message() {
                // The kept connection had ended before a byte of the request left: it is nobody's loss.
                Some(request) => {
                    connection = self.connect().await.lost(Cause::Refused)?;
                    connection.send_request(request).await
                }
                None => Err(closed.into_error()),
            },
        };
        let response = response.context("waiting for the answer").lost(end)?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            code: response
                .headers()
                .get("x-miren-error")
                .and_then(|code| Some(code.to_str().ok()?.to_owned())),
            wrong: None,
        };
        // Kept only for whoever wants to see it: a load without a check reads answers of any size.
        let check = self.options.check.as_ref().filter(|_| response.status().is_success());
        let (mut body, mut kept) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.context("reading the answer's body").lost(Cause::Cut)?;
            if let (Some(_), Some(piece)) = (check, frame.data_ref()) {
                kept.extend_from_slice(piece);
            }
        }
        if let Some(check) = check {
            let seen = Seen {
                due,
                sent,
                received: Instant::now(),
                status: answer.status,
                body: &kept,
            };
            answer.wrong = check.judge(&seen).err();
        }
        self.connection = Some(connection);
        Ok(answer)
    }

    /// The connection of the last request, unless the server has closed it since.
    async fn kept(&mut self) -> Option<Connection> {
        let mut connection = self.connection.take()?;
        connection.ready().await.is_ok().then_some(connection)
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .context("setting up HTTP")?;
        tokio::spawn(driver);
        Ok(connection)
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let options = &self.options;
        let path = options.url.path_and_query().map_or("/", |path| path.as_str());
        let host = options.host.clone().unwrap_or_else(|| self.address.to_string());
        let mut request = Request::builder().method(&options.method).uri(path);
        request = request.header(HOST, HeaderValue::from_str(&host).context("the host")?);
        for (name, value) in &options.headers {
            request = request.header(name, value);
        }
        request
            .body(Full::new(options.body.clone()))
            .context("making the request")
    }
}

/// Says what an error makes of a request.
trait OrLost<T> {
    fn lost(self, cause: Cause) -> Result<T, Lost>;
}

impl<T> OrLost<T> for anyhow::Result<T> {
    fn lost(self, cause: Cause) -> Result<T, Lost> {
        self.map_err(|error| Lost { cause, error })
    }
}
