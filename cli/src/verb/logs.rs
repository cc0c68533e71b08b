//! `miren logs`: what an app's sandboxes wrote, so far or as it goes on.

use crate::failure::{Doing, Failure};
use crate::options::AppOptions;
use crate::{Context, app_folder, paths, shown};
use clap::Args;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use miren_api::client::Event;
use miren_api::resource::{LinePart, LogLine, LogStream};
use miren_api::{ApiError, ClientError};
use std::pin::pin;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct LogsOptions {
    #[command(flatten)]
    app: AppOptions,
    /// Go on with what is written from now
    #[arg(short, long)]
    follow: bool,
    /// Only this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only this sandbox
    #[arg(short, long, value_name = "ID")]
    sandbox: Option<String>,
    /// Only what is not older than this: 30s, 10m, 1h
    #[arg(short, long, value_name = "TIME", value_parser = miren_api::settings::parse_duration)]
    last: Option<Duration>,
}

/// Wait before the stream is taken up again after the connection broke.
const AGAIN: Duration = Duration::from_millis(500);
/// With `--last`, the time is the limit; this many lines is as much as the server sends.
const ALL_LINES: usize = 100_000;

pub async fn run(options: LogsOptions, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = app_folder::resolve(&options.app)?;
    let what = || format!("reading logs of {app}");
    let client = context.client()?;
    let mut since = earliest(&options)?;
    let mut connected = false;
    loop {
        let path = path(&options, app.as_str(), since, connected);
        let ended = match client.events(&path, None).await {
            Ok(stream) => {
                connected = true;
                print_all(stream, &mut since, context).await.doing(what)?
            }
            Err(error) => Some(error),
        };
        match ended {
            // A server that is away for a moment is waited for, once it has been there.
            None | Some(ClientError::Unreachable { .. } | ClientError::Broken { .. })
                if options.follow && connected =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            Some(error) => return Err(Failure::from(error).doing(&what())),
            None => return Ok(()),
        }
    }
}

/// Prints lines until the stream ends, and says why if it broke. `since` becomes what comes after the last line.
async fn print_all(
    stream: impl Stream<Item = Result<Event, ClientError>>,
    since: &mut Option<Timestamp>,
    context: &mut Context<'_>,
) -> Result<Option<ClientError>, Failure> {
    let mut stream = pin!(stream);
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => return Ok(Some(error)),
        };
        if event.name == "error" {
            return Err(refusal(&event.data));
        }
        let line: LogLine = serde_json::from_str(&event.data).map_err(|error| unknown(&error))?;
        *since = line.at.checked_add(jiff::SignedDuration::from_nanos(1)).ok();
        if context.console.is_json() {
            context.console.json_line(&line)?;
        } else {
            context.console.line(&in_words(&line))?;
        }
    }
    Ok(None)
}

fn refusal(data: &str) -> Failure {
    serde_json::from_str::<ApiError>(data).map_or_else(|error| unknown(&error), Failure::from)
}

fn unknown(error: &serde_json::Error) -> Failure {
    Failure::failed(format!("the server sent something this program does not know: {error}"))
        .remedy("compare \"miren version\" with the server's")
}

fn earliest(options: &LogsOptions) -> Result<Option<Timestamp>, Failure> {
    let Some(last) = options.last else { return Ok(None) };
    let at = Timestamp::now().checked_sub(last);
    at.map(Some)
        .map_err(|_| Failure::usage("--last reaches back before time began"))
}

fn path(options: &LogsOptions, app: &str, since: Option<Timestamp>, again: bool) -> String {
    let whole = options.last.is_some() || again;
    paths::with_query(
        paths::LOGS,
        &[
            ("app", Some(app.to_owned())),
            ("service", options.service.clone()),
            ("sandbox", options.sandbox.clone()),
            ("since", since.map(|at| at.to_string())),
            ("last", whole.then(|| ALL_LINES.to_string())),
            ("follow", options.follow.then(|| "true".to_owned())),
        ],
    )
}

/// `S 2026-01-02 15:04:05: [web sb-…] text`; S is stdout, E stderr, SYS the system about the sandbox. Of a line that was too long
/// `[web sb-…, part 2] text`, and `last part 3`.
fn in_words(line: &LogLine) -> String {
    let stream = match line.stream {
        LogStream::Stdout => "S",
        LogStream::Stderr => "E",
        LogStream::System => "SYS",
    };
    let at = line.at.strftime("%Y-%m-%d %H:%M:%S");
    let part = match line.part {
        None => String::new(),
        Some(LinePart { number, last: false }) => format!(", part {number}"),
        Some(LinePart { number, last: true }) => format!(", last part {number}"),
    };
    let text = format!("{stream} {at}: [{} {}{part}] {}", line.service, line.sandbox, line.line);
    shown::line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::SandboxId;

    #[test]
    fn f5_a_line_says_where_and_when_it_was_written() {
        let line = LogLine {
            at: "2026-01-02T15:04:05.678Z".parse().unwrap(),
            stream: LogStream::Stderr,
            service: "web".into(),
            sandbox: SandboxId::from_text("sb-1"),
            line: "oh no".into(),
            part: None,
        };
        assert_eq!(in_words(&line), "E 2026-01-02 15:04:05: [web sb-1] oh no");
        for (number, last, shown) in [(1, false, "part 1"), (2, false, "part 2"), (3, true, "last part 3")] {
            let part = LogLine {
                part: Some(LinePart { number, last }),
                ..line.clone()
            };
            assert_eq!(
                in_words(&part),
                format!("E 2026-01-02 15:04:05: [web sb-1, {shown}] oh no")
            );
        }
        let hostile = LogLine {
            line: "\x1b[1A\x1b[2K\rE 2026-01-02 15:04:05: [web sb-1] all is well\nS".into(),
            ..line
        };
        assert_eq!(
            in_words(&hostile),
            r"E 2026-01-02 15:04:05: [web sb-1] \x1b[1A\x1b[2K\rE 2026-01-02 15:04:05: [web sb-1] all is well\nS"
        );
    }
}
