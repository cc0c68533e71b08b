//! Decides which lines that exist already answer a query: from the newest parts of each log back, merged by time.

use super::tail::Tail;
use super::{LogQuery, SUFFIX, parts};
use crate::files;
use jiff::Timestamp;
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::{LogLine, LogStream};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The last lines a sandbox wrote, oldest first, each cut to `characters`; without those about it. A log that cannot be read has none.
pub(crate) fn last_lines(log: &Path, count: usize, characters: usize) -> Vec<String> {
    let tail = Tail::open(log).ok().flatten();
    // One line about it at most is among the newest: how it ended.
    let lines = tail.and_then(|mut tail| newest(&mut tail, count + 1, None).ok());
    let lines = lines
        .unwrap_or_default()
        .into_iter()
        .filter(|line| line.stream != LogStream::System);
    let own: Vec<String> = lines.map(|line| in_short(&line, characters)).collect();
    own[own.len().saturating_sub(count)..].to_vec()
}

/// The text of a line in at most so many characters, with `…` where there is more of it.
pub fn in_short(line: &LogLine, characters: usize) -> String {
    let goes_on = line.part.is_some_and(|part| !part.last);
    let is_later = line.part.is_some_and(|part| part.number > 1);
    let cut = line.line.char_indices().nth(characters);
    let text = cut.map_or(line.line.as_str(), |(at, _)| &line.line[..at]);
    let before = if is_later { "…" } else { "" };
    let after = if cut.is_some() || goes_on { "…" } else { "" };
    format!("{before}{text}{after}")
}

/// The logs a query is about.
pub(super) fn logs(log_dir: &Path, query: &LogQuery) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for dir in services(log_dir, &query.app, query.service.as_deref())? {
        let names = files::names_in(&dir)?;
        let wanted = names.iter().filter(|name| is_wanted(name, query.sandbox.as_ref()));
        logs.extend(wanted.map(|name| dir.join(name)));
    }
    logs.sort();
    Ok(logs)
}

fn is_wanted(name: &str, sandbox: Option<&SandboxId>) -> bool {
    let of = name.strip_suffix(SUFFIX);
    of.is_some_and(|of| sandbox.is_none_or(|sandbox| sandbox.as_str() == of))
}

/// The folders of an app's services.
pub(super) fn services(log_dir: &Path, app: &AppName, service: Option<&str>) -> io::Result<Vec<PathBuf>> {
    let dir = log_dir.join(app.as_str());
    let names = match service {
        Some(service) => vec![service.to_owned()],
        None => files::names_in(&dir)?,
    };
    Ok(names
        .into_iter()
        .map(|name| dir.join(name))
        .filter(|dir| dir.is_dir())
        .collect())
}

/// The newest lines of several logs, at most `query.last`, in the order they were written.
pub(super) fn lines<'t>(tails: impl Iterator<Item = &'t mut Tail>, query: &LogQuery) -> io::Result<Vec<LogLine>> {
    let mut found = Vec::new();
    for tail in tails {
        found.extend(newest(tail, query.last, query.since)?);
        // Stable: lines of one sandbox stay in order even where their times are equal.
        found.sort_by_key(|line: &LogLine| line.at);
        found.drain(..found.len().saturating_sub(query.last));
    }
    Ok(found)
}

/// The newest lines of one log: everything `tail` has not read yet, then older parts for as long as they are needed.
fn newest(tail: &mut Tail, count: usize, since: Option<Timestamp>) -> io::Result<Vec<LogLine>> {
    let mut found = tail.new_lines()?;
    let mut older = parts(tail.path());
    // The newest part is what the tail has read, unless it was renamed since.
    while let Some(part) = older.pop() {
        let has_older = |since| found.first().is_some_and(|first: &LogLine| first.at < since);
        if found.len() >= count || since.is_some_and(has_older) {
            break;
        }
        let mut lines = match File::open(&part) {
            Ok(file) if tail.is(&file)? => continue,
            Ok(file) => Tail::of(&part, file)?.new_lines()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        lines.append(&mut found);
        found = lines;
    }
    found.retain(|line| since.is_none_or(|since| line.at >= since));
    found.drain(..found.len().saturating_sub(count));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::resource::LinePart;

    #[test]
    fn g7_what_is_said_of_a_line_is_short_and_shows_that_there_is_more() {
        let line = |text: &str, part| LogLine {
            at: Timestamp::UNIX_EPOCH,
            stream: LogStream::Stdout,
            service: "web".into(),
            sandbox: SandboxId::from_text("sb-1"),
            line: text.into(),
            part,
        };
        let part = |number, last| Some(LinePart { number, last });
        for (text, part, shown) in [
            ("ééé", None, "ééé"),
            ("éééé", None, "ééé…"),
            ("é", part(1, false), "é…"),
            ("é", part(2, false), "…é…"),
            ("éééé", part(3, true), "…ééé…"),
            ("", part(3, true), "…"),
        ] {
            assert_eq!(in_short(&line(text, part), 3), shown);
        }
    }
}
