//! Where `miren dev` is asked to have a program of its own serve in the place of the process that runs, as `miren upgrade` does.

use super::layout::Layout;
use crate::failure::{Doing, Failure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Longest request.
const REQUEST_MAX: u64 = 4096;
/// For a request that was begun, and for whoever takes an answer.
const WORD: Duration = Duration::from_secs(5);

/// What `miren dev` is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The daemon that the program in place is to serve as.
    pub replace: String,
    /// How long it may take, in milliseconds.
    pub limit_ms: u64,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Why it does not serve.
    pub error: Option<String>,
}

/// The socket, which only root can reach; removed when dropped.
pub struct Desk {
    path: PathBuf,
    listener: UnixListener,
}

/// Somebody who waits for an answer.
pub struct Visitor {
    stream: BufReader<UnixStream>,
    pub request: Request,
}

impl Desk {
    pub fn open(layout: &Layout) -> Result<Self, Failure> {
        let path = layout.desk();
        let what = || format!("listening at {}", path.display());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing(what),
            _ => {}
        }
        let listener = UnixListener::bind(&path).doing(what)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).doing(what)?;
        Ok(Self { path, listener })
    }

    /// The next one who asks for something that can be understood. Cancel-safe: who is cut off asks again.
    pub async fn visitor(&self) -> Visitor {
        loop {
            let heard = match self.listener.accept().await {
                Ok((stream, _)) => tokio::time::timeout(WORD, hear(stream)).await,
                Err(error) => Ok(Err(error)),
            };
            match heard {
                Ok(Ok(visitor)) => return visitor,
                // Whoever it was is told by the end of the connection. A machine without descriptors gets a moment.
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(_) => {}
            }
        }
    }
}

async fn hear(stream: UnixStream) -> io::Result<Visitor> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(REQUEST_MAX).read_line(&mut line).await?;
    let request = serde_json::from_str(&line)?;
    Ok(Visitor { stream, request })
}

impl Visitor {
    /// Whoever has gone need not be told.
    pub async fn answer(mut self, outcome: Result<(), String>) {
        let answer = Answer { error: outcome.err() };
        let text = serde_json::to_string(&answer).unwrap_or_default() + "\n";
        let _ = tokio::time::timeout(WORD, self.stream.get_mut().write_all(text.as_bytes())).await;
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
