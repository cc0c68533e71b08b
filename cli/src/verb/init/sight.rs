//! Decides what is looked at of a folder: names and the beginnings of a few files, none outside of it, no more than so much.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Entries of a folder that are looked at.
const ENTRIES_MAX: usize = 2_000;
/// Folders in the folder that are looked into.
const FOLDERS_MAX: usize = 64;
/// Programs whose text is read.
const PROGRAMS_MAX: usize = 64;
/// Bytes of a file that are read.
const TEXT_MAX: u64 = 256 * 1024;

/// Files whose text tells what a folder is.
const TEXTS: [&str; 16] = [
    "Procfile",
    "Dockerfile.miren",
    "Dockerfile",
    "package.json",
    "requirements.txt",
    "pyproject.toml",
    "Pipfile",
    "go.mod",
    "Cargo.toml",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "Gemfile",
    "composer.json",
    "main.go",
    "src/main.rs",
];
/// Files that tell something by being there.
const MARKS: [&str; 19] = [
    ".venv/bin/python",
    "venv/bin/python",
    "node_modules",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "config.ru",
    "bin/rails",
    "index.php",
    "public/index.php",
    "index.html",
    "public/index.html",
    "dist/index.html",
    "build/index.html",
    "_site/index.html",
    "site/index.html",
    "uv.lock",
];
/// Programs in a folder of the folder by which it is recognised.
const IN_FOLDERS: [&str; 5] = ["wsgi.py", "asgi.py", "__init__.py", "main.py", "app.py"];
/// Folders in which Java's builders put what they make.
const JARS: [&str; 3] = ["target", "build/libs", "."];

/// What was seen of a folder.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Text of files that are programs or tell what the folder is; of a long one the beginning.
    texts: BTreeMap<String, String>,
    /// Paths of files and folders.
    names: BTreeSet<String>,
}

impl Sight {
    /// Text of a file that was looked for and is there.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    pub fn has(&self, path: &str) -> bool {
        self.names.contains(path) || self.texts.contains_key(path)
    }

    /// Texts of files with this ending, by path.
    pub fn programs(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.texts.iter().filter(move |(path, _)| path.ends_with(ending));
        texts.map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Paths of everything with this ending.
    pub fn ending(&self, ending: &str) -> impl Iterator<Item = &str> {
        let names = self.names.iter().map(String::as_str);
        names.filter(move |path| path.ends_with(ending))
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self {
            texts: files.iter().map(own).collect(),
            names: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
        }
    }
}

/// Looks at a folder.
///
/// # Errors
/// When the folder itself cannot be read. What of it cannot be read is not there.
pub fn look(root: &Path) -> io::Result<Sight> {
    let dir = openat(CWD, root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut sight = Sight::default();
    let mut folders = Vec::new();
    for name in entries(&dir, ".")? {
        match kind(&dir, &name) {
            Some(FileType::Directory) if !name.starts_with('.') => folders.push(name),
            Some(FileType::RegularFile) => drop(sight.names.insert(name)),
            _ => {}
        }
    }
    for file in TEXTS {
        sight.read(&dir, file);
    }
    for mark in MARKS {
        // An interpreter may be a link to one of the system.
        if kind(&dir, mark).is_some() {
            sight.names.insert(mark.to_owned());
        }
    }
    sight.read_programs(&dir, &folders);
    for folder in JARS {
        let jars = entries(&dir, folder).unwrap_or_default();
        let path = |name: String| match folder {
            "." => name,
            folder => format!("{folder}/{name}"),
        };
        sight
            .names
            .extend(jars.into_iter().filter(|name| name.ends_with(".jar")).map(path));
    }
    Ok(sight)
}

impl Sight {
    fn read(&mut self, dir: &OwnedFd, path: &str) {
        if let Some(text) = text(dir, path) {
            self.names.insert(path.to_owned());
            self.texts.insert(path.to_owned(), text);
        }
    }

    fn read_programs(&mut self, dir: &OwnedFd, folders: &[String]) {
        let scripts: Vec<String> = self.ending(".py").take(PROGRAMS_MAX).map(str::to_owned).collect();
        scripts.iter().for_each(|script| self.read(dir, script));
        for folder in folders.iter().take(FOLDERS_MAX) {
            for file in IN_FOLDERS {
                self.read(dir, &format!("{folder}/{file}"));
            }
        }
    }
}

/// Names in a folder of the folder that are text, in order: of more than are looked at, any.
fn entries(dir: &OwnedFd, folder: &str) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat2(dir, folder, flags, Mode::empty(), inside())?;
    let listed = rustix::fs::Dir::new(folder)?;
    let names = listed.flatten().take(ENTRIES_MAX);
    let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
    names.sort();
    Ok(names)
}

/// What a path of the folder is; a link that leads out of the folder, or nowhere, is a link.
fn kind(dir: &OwnedFd, path: &str) -> Option<FileType> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat2(dir, path, flags, Mode::empty(), inside())
        .or_else(|_| openat2(dir, path, flags | OFlags::NOFOLLOW, Mode::empty(), inside()));
    Some(FileType::from_raw_mode(fstat(found.ok()?).ok()?.st_mode))
}

fn text(dir: &OwnedFd, path: &str) -> Option<String> {
    // What is no file is not opened: a device may do something when it is.
    kind(dir, path).filter(|kind| *kind == FileType::RegularFile)?;
    // It may have become a pipe, which would be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat2(dir, path, flags, Mode::empty(), inside()).ok()?);
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The kernel keeps every link on the way below the folder.
fn inside() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}
