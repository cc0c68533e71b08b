//! Decides what of a tar stream reaches the disk: files, folders and links; nothing outside the folder, ever.
//!
//! Links lead where they were made to lead, which only the sandbox knows: nobody follows them here.

use super::{ArtifactError, FILES_MAX};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// Longest target of a link, in bytes: what the kernel takes.
const TARGET_MAX: usize = 4095;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Folder,
    /// Where it points, as it was sent.
    Link(OsString),
    File {
        executable: bool,
        bytes: u64,
        /// SHA-256 of what is in it.
        content: [u8; 32],
    },
}

/// What was unpacked, by path.
#[derive(Debug, Default)]
pub struct Contents {
    nodes: BTreeMap<String, Node>,
    bytes: u64,
}

impl Contents {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Files and links, without folders.
    pub fn files(&self) -> u64 {
        self.nodes.values().filter(|node| **node != Node::Folder).count() as u64
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Nothing lies below a link: no entry is led anywhere by another one.
    fn check_parents(&self) -> Result<(), ArtifactError> {
        for path in self.nodes.keys() {
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            for parent in parents {
                if matches!(self.nodes.get(parent), Some(Node::Link(_) | Node::File { .. })) {
                    return Err(refused(path, "lies below something that is no folder"));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node) -> Result<(), ArtifactError> {
        if self.nodes.len() as u64 >= FILES_MAX {
            return Err(ArtifactError::TooLarge {
                max: FILES_MAX,
                of: "files and folders",
            });
        }
        match self.nodes.insert(path.to_owned(), node.clone()) {
            None => Ok(()),
            Some(Node::Folder) if node == Node::Folder => Ok(()),
            Some(_) => Err(refused(path, "is there twice")),
        }
    }
}

/// Unpacks into the empty folder `root`.
///
/// Links are made last: while files are written there is no link that a path could lead through.
pub fn unpack(tar: impl Read, root: &Path, bytes_max: u64) -> Result<Contents, ArtifactError> {
    let mut contents = Contents::default();
    let mut archive = Archive::new(tar);
    for entry in archive.entries().map_err(ArtifactError::Broken)? {
        let mut entry = entry.map_err(ArtifactError::Broken)?;
        let Some(path) = inner_path(&entry)? else { continue };
        let node = match entry.header().entry_type() {
            EntryType::Directory => {
                folder(root, &path)?;
                Node::Folder
            }
            EntryType::Regular | EntryType::Continuous => {
                let left = bytes_max - contents.bytes;
                if entry.size() > left {
                    return Err(ArtifactError::TooLarge {
                        max: bytes_max,
                        of: "bytes",
                    });
                }
                let node = file(&mut entry, root, &path)?;
                contents.bytes += entry.size();
                node
            }
            EntryType::Symlink => Node::Link(target(&entry, &path)?),
            EntryType::XGlobalHeader => continue,
            EntryType::Link => return Err(refused(&path, "is a hard link")),
            _ => return Err(refused(&path, "is neither a file, a folder nor a link")),
        };
        contents.add(&path, node)?;
    }
    contents.check_parents()?;
    for (path, node) in contents.iter() {
        if let Node::Link(to) = node {
            let place = root.join(path);
            parents(root, path)?;
            symlink(to, &place).map_err(disk(&place))?;
        }
    }
    Ok(contents)
}

fn refused(path: &str, why: &'static str) -> ArtifactError {
    ArtifactError::Entry {
        path: path.to_owned(),
        why,
    }
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> ArtifactError {
    move |source| ArtifactError::Disk {
        path: path.to_owned(),
        source,
    }
}

/// The path of an entry inside the folder, without `.`; none for the folder itself.
fn inner_path(entry: &Entry<'_, impl Read>) -> Result<Option<String>, ArtifactError> {
    let path = entry.path().map_err(ArtifactError::Broken)?;
    let shown = path.to_string_lossy().into_owned();
    let mut inner = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inner.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(refused(&shown, "has an absolute path")),
            Component::ParentDir => return Err(refused(&shown, "leads out of the folder")),
        }
    }
    match inner.to_str() {
        Some("") => Ok(None),
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(refused(&shown, "has a name that is not UTF-8")),
    }
}

/// Where a link points, byte for byte.
fn target(entry: &Entry<'_, impl Read>, path: &str) -> Result<OsString, ArtifactError> {
    let to = entry.link_name_bytes().unwrap_or_default();
    match to.len() {
        0 => Err(refused(path, "is a link to nothing")),
        length if length > TARGET_MAX => Err(refused(path, "is a link to a name that is too long")),
        _ if to.contains(&0) => Err(refused(path, "is a link to a name with a zero byte")),
        _ => Ok(OsString::from_vec(to.into_owned())),
    }
}

fn folder(root: &Path, path: &str) -> Result<(), ArtifactError> {
    let place = root.join(path);
    std::fs::create_dir_all(&place).map_err(disk(&place))
}

fn parents(root: &Path, path: &str) -> Result<(), ArtifactError> {
    path.rsplit_once('/').map_or(Ok(()), |(parent, _)| folder(root, parent))
}

fn file(entry: &mut Entry<'_, impl Read>, root: &Path, path: &str) -> Result<Node, ArtifactError> {
    parents(root, path)?;
    let executable = entry.header().mode().map_err(ArtifactError::Broken)? & 0o111 != 0;
    let place = root.join(path);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if executable { 0o755 } else { 0o644 })
        .open(&place);
    let file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(refused(path, "is there twice"));
        }
        other => other.map_err(disk(&place))?,
    };
    let (bytes, content) = copy(entry, file, &place)?;
    if bytes != entry.size() {
        let why = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ends within a file");
        return Err(ArtifactError::Broken(why));
    }
    Ok(Node::File {
        executable,
        bytes,
        content,
    })
}

fn copy(from: &mut impl Read, mut to: File, place: &Path) -> Result<(u64, [u8; 32]), ArtifactError> {
    let mut hash = Sha256::new();
    let mut buffer = [0; 64 << 10];
    let mut bytes = 0;
    loop {
        let count = from.read(&mut buffer).map_err(ArtifactError::Broken)?;
        if count == 0 {
            return Ok((bytes, hash.finalize().into()));
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(disk(place))?;
        bytes += count as u64;
    }
}
