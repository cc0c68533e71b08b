//! `miren init`: writes an app.toml for a folder by what is found in it, or shows it.

use crate::app_folder;
use crate::console::Console;
use crate::failure::{Exit, Failure};
use clap::Args;
use miren_api::AppName;
use miren_api::app_file::{self, APP_FILE, AppFile, PROCFILE};
use miren_api::settings::Problems;
use proposal::Proposal;
use serde::Serialize;
use sight::Sight;
use std::path::{Path, PathBuf};

mod compiled;
mod name;
mod node;
mod others;
mod place;
mod proposal;
mod python;
mod sight;
#[cfg(test)]
mod tests;
mod text;

#[derive(Debug, Args)]
pub struct InitOptions {
    /// The app's folder
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// What the app is called; otherwise as its folder
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write over an app.toml that is there
    #[arg(short, long)]
    force: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    print: bool,
}

#[derive(Serialize)]
struct Document<'p> {
    name: &'p AppName,
    path: &'p str,
    written: bool,
    /// In words, what the settings follow from.
    found: &'p [String],
    services: Vec<Named<'p>>,
    include: &'p [String],
    /// What is left to be done in the folder, in order.
    next: &'p [String],
    text: &'p str,
}

#[derive(Serialize)]
struct Named<'p> {
    name: &'p str,
    command: &'p str,
    port: Option<u16>,
}

/// Looks at the folder and writes its settings. Asks no server.
///
/// # Errors
/// When the folder cannot be opened, has settings already, or has a Procfile that a deploy would refuse.
pub fn run(options: &InitOptions, console: &mut Console) -> Result<(), Failure> {
    let root = open(&options.dir)?;
    let name = match &options.name {
        Some(name) => app_folder::parse_name(name)?,
        None => name::of_folder(&root),
    };
    if !options.print && !options.force && root.join(APP_FILE).symlink_metadata().is_ok() {
        return Err(Failure {
            exit: Exit::Conflict,
            ..Failure::failed(format!("{} is there already", root.join(APP_FILE).display()))
                .code("exists")
                .remedy("miren init --print shows another, miren init --force writes it over this one")
        });
    }
    let sight =
        sight::look(&root).map_err(|error| Failure::failed(format!("looking at {}: {error}", root.display())))?;
    let mut proposal = proposal::of(&sight).map_err(|problems| refused(&root, PROCFILE, problems))?;
    let text = text::of(&name, &proposal);
    let read = read_back(&sight, &text).map_err(|problems| refused(&root, APP_FILE, problems))?;
    if !options.print {
        place::write(&root, &text, options.force)?;
    }
    proposal.next.push("miren deploy".to_owned());
    let outcome = Outcome {
        path: root.join(APP_FILE).display().to_string(),
        written: !options.print,
        root,
        name,
        proposal,
        text,
        read,
    };
    outcome.tell(console)
}

fn open(dir: &Path) -> Result<PathBuf, Failure> {
    let wrong =
        |why: String| Failure::usage(format!("opening the app's folder {}: {why}", dir.display())).remedy("-d DIR");
    let root = dir.canonicalize().map_err(|error| wrong(error.to_string()))?;
    match root.is_dir() {
        true => Ok(root),
        false => Err(wrong("it is not a folder".to_owned())),
    }
}

/// As a deploy would read it.
fn read_back(sight: &Sight, text: &str) -> Result<AppFile, Problems> {
    let folder = app_file::Folder {
        app_file: Some(text),
        procfile: sight.text(PROCFILE),
        has: &|file| sight.has(file),
    };
    app_file::parse_for(None, folder)
}

fn refused(root: &Path, file: &str, problems: Problems) -> Failure {
    let Problems(list) = problems.clone();
    Failure::failed(format!("reading {}:\n{problems}", root.join(file).display()))
        .code("invalid_config")
        .remedy("correct the lines above")
        .problems(list)
}

/// What became of a folder.
struct Outcome {
    name: AppName,
    root: PathBuf,
    path: String,
    written: bool,
    proposal: Proposal,
    text: String,
    /// The text as a deploy reads it.
    read: AppFile,
}

impl Outcome {
    fn tell(&self, console: &mut Console) -> Result<(), Failure> {
        if console.is_json() {
            return console.document(&self.document());
        }
        for found in &self.proposal.found {
            console.note(&format!("Found {found}"));
        }
        match self.written {
            true => console.line(&format!("Wrote {} for app {}", self.path, self.name))?,
            false => console.verbatim(self.text.trim_end())?,
        }
        console.note(&format!("Next, in {}:", self.root.display()));
        for next in &self.proposal.next {
            console.note(&format!("  {next}"));
        }
        Ok(())
    }

    fn document(&self) -> Document<'_> {
        let services = self.read.services.iter().map(|(name, service)| Named {
            name,
            command: &service.command,
            port: service.port,
        });
        Document {
            name: &self.name,
            path: &self.path,
            written: self.written,
            found: &self.proposal.found,
            services: services.collect(),
            include: &self.proposal.include,
            next: &self.proposal.next,
            text: &self.text,
        }
    }
}
