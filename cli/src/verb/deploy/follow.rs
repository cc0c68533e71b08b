//! Follows a deploy to its end, over broken connections and restarts of the server.

use super::output::Output;
use super::words;
use crate::console::Console;
use crate::failure::{Doing, Failure};
use crate::paths;
use futures_util::StreamExt;
use miren_api::deploy::{Deploy, DeployStep};
use miren_api::{Client, ClientError};
use std::pin::pin;
use std::time::{Duration, Instant};

/// The server may be away this long (it restarts) before following is given up; the deploy goes on regardless.
const AWAY: Duration = Duration::from_secs(30);
/// Wait between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(250);

/// Prints each step as it comes, and returns the deploy once it is final.
///
/// The event stream is only what makes this quick: whether a deploy has ended is read from the deploy itself.
pub async fn to_the_end(client: &Client, mut deploy: Deploy, console: &Console) -> Result<Deploy, Failure> {
    let path = paths::of(paths::DEPLOYS, deploy.id.as_str());
    let mut steps = Steps {
        printed: 0,
        last_id: None,
        output: Output::default(),
    };
    let mut away_since: Option<Instant> = None;
    loop {
        let watched = steps.watch(client, &path, console).await;
        let seen = match watched {
            Ok(()) => client.get::<Deploy>(&path).await,
            Err(error) => Err(error),
        };
        match seen {
            Ok(seen) => {
                away_since = None;
                deploy = seen;
                steps.catch_up(&deploy, console);
            }
            Err(error @ ClientError::Refused(_)) => return Err(error).doing(|| format!("following {}", deploy.id)),
            Err(error) if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY => {
                let failure =
                    Err(error).doing(|| format!("following {}, which goes on without being watched", deploy.id));
                return failure.map_err(|failure| failure.remedy(format!("miren app status -a {}", deploy.app)));
            }
            Err(error) => console.detail(&format!("following {}: {error}", deploy.id)),
        }
        if deploy.status.is_final() {
            return Ok(deploy);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// How far the steps have been shown, and where to take up their stream again.
struct Steps {
    printed: usize,
    last_id: Option<String>,
    output: Output,
}

impl Steps {
    /// Prints steps until the stream ends, whole or broken. Each event brings the whole deploy.
    async fn watch(&mut self, client: &Client, deploy: &str, console: &Console) -> Result<(), ClientError> {
        let path = format!("{deploy}/events");
        let mut stream = pin!(client.events(&path, self.last_id.as_deref()).await?);
        while let Some(event) = stream.next().await {
            let event = event?;
            match event.name.as_str() {
                "output" => self.output.show(&event.data, console),
                _ => {
                    if let Ok(deploy) = serde_json::from_str(&event.data) {
                        self.catch_up(&deploy, console);
                    }
                }
            }
            self.last_id = Some(event.id).filter(|id| !id.is_empty()).or(self.last_id.take());
        }
        Ok(())
    }

    /// Prints what has not been printed.
    fn catch_up(&mut self, deploy: &Deploy, console: &Console) {
        for step in deploy.steps.iter().skip(self.printed) {
            print(step, console);
        }
        self.printed = self.printed.max(deploy.steps.len());
    }
}

fn print(step: &DeployStep, console: &Console) {
    // A message of several lines stays under its step.
    let message = step.message.replace('\n', &format!("\n  {:<12} ", ""));
    let line = format!("  {:<12} {message}", step.status.as_str());
    console.step(&words::of(step), line.trim_end());
}
