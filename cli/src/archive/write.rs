//! Decides how what was listed is written as a tar stream.

use super::{ArchiveError, Kind, Listing};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

impl Listing {
    /// Writes the tar stream. Owners and times are left out, and of the mode only whether a file is executable counts.
    pub fn write(&self, output: impl Write) -> Result<(), ArchiveError> {
        let mut tar = tar::Builder::new(output);
        for (path, kind) in &self.entries {
            match kind {
                Kind::Folder => {
                    let mut header = header(tar::EntryType::Directory, 0o755, 0);
                    tar.append_data(&mut header, path, io::empty())
                        .map_err(ArchiveError::Output)?;
                }
                Kind::Link { to } => {
                    append_link(&mut tar, path, to).map_err(ArchiveError::Output)?;
                }
                Kind::File { bytes, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    let mut header = header(tar::EntryType::Regular, mode, *bytes);
                    self.append_file(&mut tar, &mut header, path)?;
                }
            }
        }
        tar.finish().map_err(ArchiveError::Output)
    }

    fn append_file(
        &self,
        tar: &mut tar::Builder<impl Write>,
        header: &mut tar::Header,
        path: &Path,
    ) -> Result<(), ArchiveError> {
        let full = self.root.join(path);
        let read_error = |source| ArchiveError::Read {
            path: path.to_owned(),
            source,
        };
        let opened = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&full);
        let file = opened.map_err(read_error)?;
        let promised = header.size().map_err(ArchiveError::Output)?;
        let mut contents = Exactly {
            file,
            left: promised,
            trouble: None,
        };
        let appended = tar.append_data(header, path, &mut contents);
        match contents.trouble {
            Some(source) => Err(read_error(source)),
            // A shorter or longer file than its header says would shift everything behind it.
            None if contents.left > 0 && appended.is_ok() => Err(ArchiveError::Changed(path.to_owned())),
            None => {
                appended.map_err(ArchiveError::Output)?;
                let grown = contents.file.read(&mut [0]).map_err(read_error)? > 0;
                if grown {
                    Err(ArchiveError::Changed(path.to_owned()))
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// A file up to the size that was promised for it; keeps its own errors apart from those of the output.
struct Exactly {
    file: File,
    left: u64,
    trouble: Option<io::Error>,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.file.read(&mut buffer[..wanted]) {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let shown = io::Error::new(error.kind(), error.to_string());
                self.trouble = Some(error);
                Err(shown)
            }
        }
    }
}

/// A link as it is: byte for byte, not as the path that it stands for.
fn append_link(tar: &mut tar::Builder<impl Write>, path: &Path, to: &Path) -> io::Result<()> {
    let to = to.as_os_str().as_encoded_bytes();
    let mut link = header(tar::EntryType::Symlink, 0o777, 0);
    if link.set_link_name_literal(to).is_err() {
        let mut long = header(tar::EntryType::GNULongLink, 0o644, to.len() as u64 + 1);
        long.set_path("././@LongLink")?;
        long.set_cksum();
        tar.append(&long, to.chain([0].as_slice()))?;
    }
    tar.append_data(&mut link, path, io::empty())
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
