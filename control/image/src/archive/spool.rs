//! Decides how the files of an archive are set aside, and found again by the names they had.

use crate::digest::{Digest, Hasher};
use crate::error::{Fault, ImageError};
use crate::layer::compression;
use crate::layer::entries::{Entries, Entry, parts};
use crate::limits::{Allowance, Limits, Metered};
use crate::temp::Temp;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use tar::EntryType;

/// Most entries: some three for each layer, of many images.
const ENTRIES_MAX: u64 = 20_000;
/// Most links on the way to a file.
const LINKS_MAX: usize = 8;

/// The files of an archive; removed with this value.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: Temp,
    files: HashMap<String, Spooled>,
    /// Where links point, as a name in the archive.
    links: HashMap<String, String>,
}

#[derive(Debug)]
struct Spooled {
    path: PathBuf,
    bytes: u64,
}

impl Spool {
    /// Takes an archive, compressed or not. Blocks.
    pub(crate) fn fill(archive: impl Read, temp: &Path, limits: &Limits) -> Result<Self, ImageError> {
        let mut spool = Self {
            folder: Temp::folder(temp)?,
            files: HashMap::new(),
            links: HashMap::new(),
        };
        let taken = spool.take(archive, limits);
        taken.map_err(|fault| fault.during("unpacking the archive"))?;
        Ok(spool)
    }

    fn take(&mut self, archive: impl Read, limits: &Limits) -> Result<(), Fault> {
        let bytes = Allowance::new("the number of bytes of the archive", limits.compressed);
        let count = Allowance::new("the number of entries of the archive", ENTRIES_MAX);
        let plain = compression::open(BufReader::new(archive))?;
        let mut entries = Entries::new(Metered::new(plain, &bytes));
        while let Some(entry) = entries.next()? {
            count.take(1)?;
            match entry.kind {
                EntryType::Regular | EntryType::Continuous => {
                    let path = self.folder.path().join(self.files.len().to_string());
                    let mut file = File::create(&path)?;
                    io::copy(&mut entries.content(), &mut file)?;
                    let bytes = entry.size;
                    self.files.insert(name(&entry.path)?, Spooled { path, bytes });
                }
                EntryType::Symlink | EntryType::Link => {
                    if let Some(target) = target(&entry)? {
                        self.links.insert(name(&entry.path)?, target);
                    }
                }
                _ => {}
            }
        }
        // To its end, so that whoever sends it is heard to the end.
        let mut rest = entries.into_inner().into_inner();
        io::copy(&mut (&mut rest).take(limits.compressed), &mut io::sink())?;
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(super) fn path(&self, name: &str) -> Result<PathBuf, Fault> {
        Ok(self.required(name)?.path.clone())
    }

    /// A file that fits into memory.
    pub(super) fn small(&self, name: &str, max: u64) -> Result<Vec<u8>, Fault> {
        let file = self.required(name)?;
        if file.bytes > max {
            let what = "a file that describes an image";
            return Err(Fault::TooLarge { what, max });
        }
        Ok(std::fs::read(&file.path)?)
    }

    /// A blob that fits into memory, verified.
    pub(super) fn blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, Fault> {
        let bytes = self.small(&blob_name(digest), max)?;
        let mut hasher = Hasher::default();
        hasher.update(&bytes);
        hasher.verify(digest)?;
        Ok(bytes)
    }

    fn required(&self, name: &str) -> Result<&Spooled, Fault> {
        let missing = || Fault::corrupt(format_args!("the archive lacks {name}"));
        self.find(name).ok_or_else(missing)
    }

    fn find(&self, name: &str) -> Option<&Spooled> {
        let mut name = name;
        for _ in 0..LINKS_MAX {
            match self.files.get(name) {
                Some(file) => return Some(file),
                None => name = self.links.get(name)?,
            }
        }
        None
    }
}

/// Where an OCI layout keeps a blob.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn name(path: &[u8]) -> Result<String, Fault> {
    let name = parts(path)?.join(&b'/');
    String::from_utf8(name).map_err(|_| Fault::corrupt("a name in the archive is no text"))
}

/// Where a link points; none if that is outside. Hard links name their target from the root.
fn target(entry: &Entry) -> Result<Option<String>, Fault> {
    let mut way: Vec<&[u8]> = match entry.kind {
        EntryType::Symlink => parts(&entry.path)?,
        _ => Vec::new(),
    };
    way.pop();
    for part in entry.link.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if way.pop().is_none() => return Ok(None),
            b".." => {}
            part => way.push(part),
        }
    }
    Ok(String::from_utf8(way.join(&b'/')).ok())
}
