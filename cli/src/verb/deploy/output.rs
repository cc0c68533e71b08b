//! What a deploy says on its way: each line once, over breaks of the stream that brings it.

use crate::console::Console;
use crate::{paths, shown};
use futures_util::StreamExt;
use miren_api::deploy::OutputLine;
use miren_api::{Client, ClientError};
use std::pin::pin;
use std::time::Duration;

/// Wait between two attempts to reach the stream.
const AGAIN: Duration = Duration::from_millis(250);

/// How far the output has been shown.
#[derive(Default)]
pub struct Output {
    /// Number of the last line.
    line: u64,
}

impl Output {
    /// Prints a line, unless that was printed before a break of the stream.
    pub fn show(&mut self, data: &str, console: &Console) {
        let Ok(OutputLine { number, text }) = serde_json::from_str(data) else {
            return;
        };
        if number <= self.line {
            return;
        }
        self.line = number;
        let line = format!("  {:<12} {}", "", shown::line(&text));
        console.step_detail(&text, &line);
    }
}

/// Prints what happens to the request with this key, until the server says that it is over.
pub async fn of_request(client: &Client, key: &str, console: &Console) {
    let path = paths::of(paths::PROGRESS, key);
    let mut output = Output::default();
    loop {
        match watch(client, &path, &mut output, console).await {
            Ok(()) => return,
            // A refusal stays one. What the request leads to is told by its answer all the same.
            Err(error @ ClientError::Refused(_)) => return console.detail(&format!("watching {key}: {error}")),
            Err(error) => console.detail(&format!("watching {key}: {error}")),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn watch(client: &Client, path: &str, output: &mut Output, console: &Console) -> Result<(), ClientError> {
    let mut stream = pin!(client.events(path, None).await?);
    while let Some(event) = stream.next().await {
        let event = event?;
        if event.name == "output" {
            output.show(&event.data, console);
        }
    }
    Ok(())
}
