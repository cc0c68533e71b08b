//! Decides which paths of a folder are deployed, from the folder down.

use super::dockerignore::{Above, Dockerignore};
use super::gitignore::{self, Gitignore};
use super::{ArchiveError, SETTINGS, rules_file};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Version control's own folder, never deployed.
const GIT: &str = ".git";
const GITIGNORE: &str = ".gitignore";
const DOCKERIGNORE: &str = ".dockerignore";

/// What counts at every depth.
pub(super) struct Rules {
    docker: Dockerignore,
    /// What is deployed although it is excluded.
    include: Gitignore,
    /// Where the rules of docker were found.
    pub(super) docker_file: Option<String>,
}

impl Rules {
    /// Those of a folder. What belongs to a Dockerfile takes the place of what is for all.
    pub(super) fn of(root: &Path, include: &[String], dockerfile: Option<&str>) -> Result<Self, ArchiveError> {
        let own = dockerfile.map(|dockerfile| format!("{dockerfile}{DOCKERIGNORE}"));
        let mut found = None;
        for file in own.into_iter().chain([DOCKERIGNORE.to_owned()]) {
            if found.is_none() {
                let rules = rules_file::read(root, &file, Dockerignore::parse)?;
                found = rules.map(|rules| (rules, Some(file)));
            }
        }
        let (docker, docker_file) = found.unwrap_or_default();
        Ok(Self {
            docker,
            include: included(include)?,
            docker_file,
        })
    }
}

/// Patterns as in `.gitignore`, of what is taken.
pub(super) fn included(patterns: &[String]) -> Result<Gitignore, ArchiveError> {
    let mut include = Gitignore::default();
    for pattern in patterns {
        let wrong = |why| ArchiveError::Pattern {
            pattern: pattern.clone(),
            why,
        };
        include.add(pattern.as_bytes()).map_err(wrong)?;
    }
    Ok(include)
}

/// The `.gitignore` of one folder, below those of the folders above.
struct Level {
    rules: Gitignore,
    /// Length of the folder's own path, with the `/` that follows it.
    begins: usize,
    above: Option<Rc<Level>>,
}

/// Folders above have been decided on.
struct Folder {
    /// Relative; empty for the first.
    path: PathBuf,
    /// None: git has excluded it. Some of none: there are no rules so far.
    git: Option<Option<Rc<Level>>>,
    docker: Above,
    is_included: bool,
}

/// An entry of a folder.
struct Seen {
    path: PathBuf,
    is_chosen: bool,
    /// What it is to what is in it; none where nothing of that can be chosen.
    folder: Option<Folder>,
}

/// Relative paths, in no order.
pub(super) fn chosen(root: &Path, rules: &Rules) -> Result<Vec<PathBuf>, ArchiveError> {
    let mut found = Vec::new();
    let mut folders = vec![Folder {
        path: PathBuf::new(),
        git: Some(None),
        docker: Above::default(),
        is_included: false,
    }];
    while let Some(mut folder) = folders.pop() {
        let entries = entries(root, &folder.path)?;
        if entries
            .iter()
            .any(|(path, _)| path.file_name() == Some(OsStr::new(GITIGNORE)))
        {
            folder.read_gitignore(root)?;
        }
        for (path, is_folder) in entries {
            let seen = folder.look(path, is_folder, rules);
            folders.extend(seen.folder);
            found.extend(seen.is_chosen.then_some(seen.path));
        }
    }
    Ok(found)
}

/// Paths, and whether they are folders; a link to one is none.
fn entries(root: &Path, folder: &Path) -> Result<Vec<(PathBuf, bool)>, ArchiveError> {
    let wrong = |source| ArchiveError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder)).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if entry.file_name() != GIT {
            let is_folder = entry.file_type().map_err(wrong)?.is_dir();
            found.push((folder.join(entry.file_name()), is_folder));
        }
    }
    Ok(found)
}

impl Folder {
    fn read_gitignore(&mut self, root: &Path) -> Result<(), ArchiveError> {
        let Some(above) = &self.git else { return Ok(()) };
        let file = self.path.join(GITIGNORE);
        if let Some(rules) = rules_file::read(root, &file, Gitignore::parse)? {
            self.git = Some(Some(Rc::new(Level {
                rules,
                begins: file.as_os_str().len() - GITIGNORE.len(),
                above: above.clone(),
            })));
        }
        Ok(())
    }

    fn look(&self, path: PathBuf, is_folder: bool, rules: &Rules) -> Seen {
        let is_settings = path.starts_with(SETTINGS);
        let bytes = gitignore::bytes_of(&path);
        let git = self
            .git
            .as_ref()
            .filter(|level| !is_excluded(level.as_ref(), &bytes, is_folder));
        let text: Vec<char> = path.to_string_lossy().chars().collect();
        let (is_out, docker) = rules.docker.decide(&text, &self.docker);
        let is_included = rules.include.decide(&bytes, is_folder).unwrap_or(self.is_included);
        let may_have_more =
            is_settings || !rules.include.is_empty() || (git.is_some() && (!is_out || rules.docker.has_exceptions()));
        Seen {
            is_chosen: is_settings || is_included || (git.is_some() && !is_out),
            folder: (is_folder && may_have_more).then(|| Folder {
                path: path.clone(),
                git: git.cloned(),
                docker,
                is_included,
            }),
            path,
        }
    }
}

/// The nearest rules that say something decide.
fn is_excluded(nearest: Option<&Rc<Level>>, path: &[char], is_folder: bool) -> bool {
    let levels = std::iter::successors(nearest, |level| level.above.as_ref());
    let mut decisions = levels.filter_map(|level| level.rules.decide(&path[level.begins..], is_folder));
    decisions.next().unwrap_or_default()
}
