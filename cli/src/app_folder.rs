//! Which folder is an app's, what its settings say, and which app a command is about.

use crate::archive::{ArchiveError, Listing};
use crate::failure::Failure;
use crate::options::AppOptions;
use miren_api::AppName;
use miren_api::app_file::{self, APP_FILE, AppFile, FILE_MAX, PROCFILE};
use miren_api::beneath;
use miren_api::settings::{Problem, Problems};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// An app's folder with its settings, all of them checked.
#[derive(Debug)]
pub struct AppFolder {
    pub root: PathBuf,
    pub file: AppFile,
}

impl AppFolder {
    /// Finds and reads the app's folder, from `dir` or the nearest parent with an `app.toml`.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        Self::open_for(None, dir)
    }

    /// As [`Self::open`], with an image that is given in place of the one in its settings.
    pub fn open_for(image: Option<&str>, dir: &Path) -> Result<Self, Failure> {
        let root = locate(dir)?;
        let refused = |Problems(problems): Problems| {
            let told = Problems(problems.clone());
            Failure::failed(format!("reading the app in {}:\n{told}", root.display()))
                .code("invalid_config")
                .remedy("correct the lines above")
                .problems(problems)
        };
        let file = match (read(&root, APP_FILE), read(&root, PROCFILE)) {
            (Ok(app_file), Ok(procfile)) => {
                let folder = app_file::Folder {
                    app_file: app_file.as_deref(),
                    procfile: procfile.as_deref(),
                    has: &|file| beneath::has(&root, file),
                };
                app_file::parse_for(image, folder)
            }
            (app_file, procfile) => Err(Problems(app_file.err().into_iter().chain(procfile.err()).collect())),
        }
        .map_err(refused)?;
        Ok(Self { root, file })
    }
}

impl AppFolder {
    /// Whether only its settings count, because every service runs an image that is there already.
    pub fn is_only_settings(&self) -> bool {
        let is_there = |image: &String| app_file::dockerfile_of(image).is_none();
        let mut services = self.file.services.values();
        services.all(|service| service.image.as_ref().is_some_and(is_there))
    }

    /// What is deployed of it.
    ///
    /// # Errors
    /// When the folder cannot be looked through.
    pub fn listing(&self) -> Result<Listing, ArchiveError> {
        if self.is_only_settings() {
            return Listing::only(&self.root, &[APP_FILE, PROCFILE]);
        }
        let dockerfile = self.file.build.dockerfile.as_deref();
        Listing::of(&self.root, &self.file.include, &[APP_FILE, PROCFILE], dockerfile)
    }
}

/// The app a command is about: `-a`, `MIREN_APP`, or the name in the folder's `app.toml`.
pub fn resolve(options: &AppOptions) -> Result<AppName, Failure> {
    match &options.app {
        Some(name) => parse_name(name),
        None if !has_settings(&locate(&options.dir)?) => named_by(&None),
        None => named_by(&AppFolder::open(&options.dir)?.file.name),
    }
}

/// [`resolve`], for a folder that has been read already.
pub fn resolve_in(options: &AppOptions, folder: &AppFolder) -> Result<AppName, Failure> {
    match &options.app {
        Some(name) => parse_name(name),
        None => named_by(&folder.file.name),
    }
}

/// Checks an app name of the command line.
pub fn parse_name(text: &str) -> Result<AppName, Failure> {
    AppName::parse(text).map_err(|why| {
        Failure::usage(format!("app name {text:?} {why}")).remedy("a name like \"shop\": a-z, 0-9 and inner '-'")
    })
}

fn named_by(name: &Option<AppName>) -> Result<AppName, Failure> {
    name.clone().ok_or_else(|| {
        Failure::usage("which app?").remedy(format!(
            "-a NAME, MIREN_APP in the environment, or name = \"…\" in {APP_FILE}"
        ))
    })
}

fn has_settings(root: &Path) -> bool {
    root.join(APP_FILE).is_file() || root.join(PROCFILE).is_file()
}

/// `dir` if it has settings of its own, else the nearest parent with an `app.toml`, else `dir`.
fn locate(dir: &Path) -> Result<PathBuf, Failure> {
    let start = dir.canonicalize().map_err(|error| {
        Failure::usage(format!("opening the app's folder {}: {error}", dir.display())).remedy("-d DIR")
    })?;
    if !start.is_dir() {
        return Err(Failure::usage(format!("{} is not a folder", dir.display())).remedy("-d DIR"));
    }
    if start.join(PROCFILE).is_file() {
        return Ok(start);
    }
    let settled = start.ancestors().find(|folder| folder.join(APP_FILE).is_file());
    Ok(settled.map_or_else(|| start.clone(), Path::to_path_buf))
}

/// The text of a file, as the server reads it; nothing when the folder lacks it.
fn read(root: &Path, file: &str) -> Result<Option<String>, Problem> {
    let wrong = |why: String| Problem::of_file(Path::new(file), why);
    let bytes = beneath::read(root, file, FILE_MAX).map_err(|why| wrong(why.to_string()))?;
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Problem {
            line: valid.iter().filter(|byte| **byte == b'\n').count() + 1,
            ..wrong("is not UTF-8 text".to_owned())
        }
    })
}
