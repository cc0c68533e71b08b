//! Decides what a folder would run, from what was seen of it: the first kind of app that it looks like.

use super::sight::Sight;
use super::{compiled, node, others, python};
use miren_api::app_file::{self, DOCKERFILES, PROCFILE, RELEASE, WEB};
use miren_api::settings::Problems;

/// What settings are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// In words, what it follows from; first what decided.
    pub found: Vec<String>,
    pub services: Vec<Proposed>,
    /// Files to take along although `.gitignore` excludes them.
    pub include: Vec<String>,
    /// What is left to be done before a deploy, in order.
    pub next: Vec<String>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    pub name: String,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Runs(String),
    /// The Procfile has it.
    InProcfile(String),
    /// Its image has it; and the port that is exposed, if one is.
    OfImage {
        port: Option<u16>,
    },
    /// Nobody knows: it says so and fails.
    Missing,
}

impl Proposal {
    /// A `web` service with this command.
    pub fn web(found: impl Into<String>, command: impl Into<String>) -> Self {
        Self::of(found, Command::Runs(command.into()))
    }

    fn of(found: impl Into<String>, command: Command) -> Self {
        let web = Proposed {
            name: WEB.to_owned(),
            command,
        };
        Self {
            found: vec![found.into()],
            services: vec![web],
            ..Self::default()
        }
    }

    pub fn include(mut self, pattern: impl Into<String>) -> Self {
        self.include.push(pattern.into());
        self
    }

    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
}

/// What the folder looks like. There is always something to write.
///
/// # Errors
/// Those of its Procfile.
pub fn of(sight: &Sight) -> Result<Proposal, Problems> {
    let (processes, release) = match sight.text(PROCFILE) {
        Some(text) if has_only_release(text) => (None, Some(format!("{PROCFILE}: {RELEASE}"))),
        Some(text) => (Some(procfile(sight, text)?), None),
        None => (None, None),
    };
    let looks = || {
        let kinds = [python::django, node::started, others::ruby, python::app, compiled::go];
        let more = [compiled::rust, compiled::java, others::php, node::file, others::pages];
        kinds.into_iter().chain(more).find_map(|kind| kind(sight))
    };
    let image = dockerfile(sight);
    let proposal = match (image, processes) {
        (Some(image), Some(processes)) => Proposal {
            found: [processes.found, image.found].concat(),
            ..processes
        },
        (Some(image), None) => image,
        // What its dependencies need is the same, whoever names the command.
        (None, Some(processes)) => match looks() {
            Some(like) => Proposal {
                include: like.include,
                next: like.next,
                ..processes
            },
            None => processes,
        },
        (None, None) => looks().unwrap_or_else(unknown),
    };
    Ok(Proposal {
        found: release.into_iter().chain(proposal.found).collect(),
        ..proposal
    })
}

/// Whether a Procfile says nothing of what serves.
fn has_only_release(text: &str) -> bool {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut names = lines.filter_map(|line| Some(line.split_once(':')?.0.trim())).peekable();
    names.peek().is_some() && names.all(|name| name == RELEASE)
}

fn procfile(sight: &Sight, text: &str) -> Result<Proposal, Problems> {
    let folder = app_file::Folder {
        app_file: None,
        procfile: Some(text),
        has: &|file| sight.has(file),
    };
    let read = app_file::parse_for(None, folder)?;
    let mut all: Vec<&str> = read.services.keys().map(String::as_str).collect();
    all.extend(read.release.as_ref().map(|_| RELEASE));
    all.sort_unstable();
    let services = read.services.iter().map(|(name, service)| Proposed {
        name: name.clone(),
        command: Command::InProcfile(service.command.clone()),
    });
    Ok(Proposal {
        found: vec![format!("{PROCFILE}: {}", all.join(", "))],
        services: services.collect(),
        ..Proposal::default()
    })
}

fn dockerfile(sight: &Sight) -> Option<Proposal> {
    let (file, text) = DOCKERFILES.iter().find_map(|file| Some((file, sight.text(file)?)))?;
    let stages = instructions(text, "FROM").count();
    let port = exposed(text);
    let mut found = match stages {
        0 | 1 => (*file).to_owned(),
        stages => format!("{file} of {stages} stages, of which the last one runs"),
    };
    if let Some(port) = port {
        found = format!("{found}; it exposes port {port}");
    }
    Some(Proposal::of(found, Command::OfImage { port }))
}

/// What follows an instruction of a Dockerfile, each time.
fn instructions<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| {
        let (word, rest) = line.trim().split_once(char::is_whitespace)?;
        word.eq_ignore_ascii_case(name).then_some(rest.trim())
    })
}

/// The lowest TCP port that its last stage exposes, which is the one that a deploy finds in the image.
fn exposed(text: &str) -> Option<u16> {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines
        .iter()
        .rposition(|line| instructions(line, "FROM").next().is_some())?;
    let stage = lines[last..].join("\n");
    let ports = instructions(&stage, "EXPOSE").flat_map(str::split_whitespace);
    let tcp = ports.filter_map(|port| match port.split_once('/') {
        Some((port, protocol)) => protocol.eq_ignore_ascii_case("tcp").then_some(port),
        None => Some(port),
    });
    tcp.filter_map(|port| port.parse().ok()).min()
}

fn unknown() -> Proposal {
    Proposal::of("nothing that says what runs", Command::Missing).next("set services.web.command in .miren/app.toml")
}
