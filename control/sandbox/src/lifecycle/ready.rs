//! Decides when a sandbox that runs is ready for requests.

use super::boot_error::BootError;
use super::{Sandbox, Stage, listening};
use miren_api::resource::SandboxState;
use miren_fault::Point;
use miren_loader::State;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A service without a port cannot be asked: it is ready when it has not failed for this long.
const SETTLED: Duration = Duration::from_millis(100);
/// Delays between probes: short at first, because a ready port ends a wait of users; then out of the app's way.
const FIRST_DELAY: Duration = Duration::from_millis(1);
const LAST_DELAY: Duration = Duration::from_millis(50);
/// How long one connection or one answer to a probe may take.
const PROBE: Duration = Duration::from_secs(2);
/// Bytes of a status line; more is no HTTP.
const STATUS_LINE: u64 = 1024;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unready {
    #[error("{0}")]
    Connect(io::Error),
    #[error("GET {path} was answered with {status}")]
    Status { path: String, status: u16 },
    #[error("GET {path} had no HTTP answer: {error}")]
    Answer { path: String, error: io::Error },
}

impl Sandbox {
    /// Waits until the sandbox is ready, ends, takes too long, or is not wanted any more.
    pub(super) async fn become_ready(&mut self) -> Stage {
        let Some(life) = &self.life else { return Stage::Ended };
        let service = &self.order.service;
        let endpoint = self.endpoint();
        let ready = async {
            match endpoint {
                Some(endpoint) => listens(endpoint, service.health_path.as_deref(), service.port_timeout).await,
                // It is ready for nobody, and may be over before that.
                None if self.order.one_off.is_some() => Ok(()),
                None => {
                    sleep(SETTLED).await;
                    Ok(())
                }
            }
        };
        let result = tokio::select! {
            () = life.ended(&self.node.fast_path) => return Stage::Ended,
            Some(command) = self.commands.recv() => return self.retire(command),
            result = ready => result,
        };
        match result {
            Ok(()) => self
                .advance(State::Running, SandboxState::Running)
                .err()
                .unwrap_or(Stage::Serve),
            Err(unready) => {
                let error = self.too_late(&unready);
                self.failed(&error);
                Stage::Abort
            }
        }
    }

    fn too_late(&self, unready: &Unready) -> BootError {
        let limit = self.order.service.port_timeout;
        let port = self.facts.port.unwrap_or_default();
        let Unready::Connect(error) = unready else {
            return BootError::Health(format!("was not ready within {limit:?}: {unready}").into());
        };
        let found = self.facts.pid.map(listening::of_process).unwrap_or_default();
        let advice = listening::advice(port, &found, &error.to_string());
        BootError::Port(format!("did not listen on port {port} within {limit:?}; {advice}").into())
    }
}

/// Probes until one succeeds; after `limit`, how the last one failed.
async fn listens(endpoint: SocketAddr, health_path: Option<&str>, limit: Duration) -> Result<(), Unready> {
    let mut last = Unready::Connect(io::ErrorKind::TimedOut.into());
    let probes = async {
        let _ = miren_fault::at(Point::CreatePort).await;
        let mut delay = FIRST_DELAY;
        while let Err(unready) = probe(endpoint, health_path).await {
            last = unready;
            sleep(delay).await;
            delay = (delay * 3 / 2).min(LAST_DELAY);
        }
    };
    match timeout(limit, probes).await {
        Ok(()) => Ok(()),
        Err(_) => Err(last),
    }
}

/// Asks once whether it is ready; with a path by HTTP, else by connecting.
pub(super) async fn probe(endpoint: SocketAddr, health_path: Option<&str>) -> Result<(), Unready> {
    let stream = within_probe(TcpStream::connect(endpoint))
        .await
        .map_err(Unready::Connect)?;
    let Some(path) = health_path else { return Ok(()) };
    let path = path.to_owned();
    match within_probe(status_of(stream, endpoint, &path)).await {
        Ok(200..=399) => Ok(()),
        Ok(status) => Err(Unready::Status { path, status }),
        Err(error) => Err(Unready::Answer { path, error }),
    }
}

async fn within_probe<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PROBE, work).await?
}

async fn status_of(mut stream: TcpStream, endpoint: SocketAddr, path: &str) -> io::Result<u16> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nUser-Agent: miren-probe\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(stream.take(STATUS_LINE)).read_line(&mut line).await?;
    parse_status(&line).ok_or_else(|| io::Error::other("no status line"))
}

fn parse_status(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace();
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_lines_have_a_status() {
        assert_eq!(parse_status("HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(parse_status("HTTP/1.0 500\r\n"), Some(500));
        assert_eq!(parse_status("SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(parse_status(""), None);
    }

    #[tokio::test]
    async fn b2_a_port_that_nobody_listens_on_is_given_up_in_time() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port");
        let unready = listens(free, None, Duration::from_millis(50))
            .await
            .expect_err("nobody listens");
        assert!(unready.to_string().contains("refused"), "{unready}");
    }
}
