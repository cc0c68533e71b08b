//! Decides what the entries of a tar stream are, within bounds that hold whatever the stream says.

use super::pax::{PAX_MAX, Pax};
use crate::error::Fault;
use std::io::{self, Read};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// Longest path, and longest target of a link: PATH_MAX without the final zero.
const NAME_MAX: u64 = 4095;

/// One entry, without its content.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As sent.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// For messages.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.path).chars().take(200).collect()
    }
}

/// Reads a tar stream from its beginning to its end.
///
/// The `tar` crate's own reader takes names and extended headers of any length into memory, and
/// splits attribute values at line ends; only its header fields are used here.
pub(crate) struct Entries<R> {
    inner: R,
    /// Of the current entry: content not read yet, and what fills up its last block.
    content: u64,
    padding: u64,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            content: 0,
            padding: 0,
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; what is left of the current one is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let (mut long_path, mut long_link, mut pax) = (None, None, Pax::default());
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::GNULongName => long_path = Some(self.name()?),
                EntryType::GNULongLink => long_link = Some(self.name()?),
                EntryType::XHeader => pax = Pax::parse(&self.text(PAX_MAX)?)?,
                EntryType::XGlobalHeader => drop(self.text(PAX_MAX)?),
                EntryType::GNUSparse => return Err(Fault::unsupported("sparse files are not supported")),
                _ => {
                    if let Some(size) = pax.size {
                        self.start(size);
                    }
                    pax.path = pax.path.or(long_path);
                    pax.link = pax.link.or(long_link);
                    return self.entry(&header, pax).map(Some);
                }
            }
        }
    }

    /// The content of the current entry.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    fn start(&mut self, size: u64) {
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
    }

    fn header(&mut self) -> Result<Option<Header>, Fault> {
        self.skip()?;
        let mut header = Header::new_old();
        if !read_block(&mut self.inner, header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let broken = |_| Fault::corrupt("a header of the tar stream is broken");
        let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = header.as_bytes()[148..156].iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().map_err(broken)? != sum - own + 8 * u32::from(b' ') {
            return Err(Fault::corrupt("it is no tar stream, or a header of it is broken"));
        }
        // No content of a tar stream comes near this; it keeps sums from overflowing.
        let size = header.entry_size().map_err(broken)?;
        self.start(size.min(u64::MAX / 2));
        Ok(Some(header))
    }

    fn entry(&mut self, header: &Header, pax: Pax) -> Result<Entry, Fault> {
        let broken = |_| Fault::corrupt("a header of the tar stream has a number that is none");
        let path = pax.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax
            .link
            .or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let id = |own: Option<u64>, plain: io::Result<u64>| -> Result<u32, Fault> {
            let id = own.map_or(plain, Ok).map_err(broken)?;
            // The largest one means "leave it as it is" to the kernel.
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| Fault::corrupt("a user or group id is out of range"))
        };
        let seconds = |header: &Header| header.mtime().map(|time| i64::try_from(time).unwrap_or(0));
        let mut kind = header.entry_type();
        if is_header_only(kind) {
            // Whatever size they claim: other readers of image layers go on with the next block too.
            self.start(0);
        }
        if kind == EntryType::Regular && path.ends_with(b"/") {
            // How archives older than POSIX mark folders.
            kind = EntryType::Directory;
        }
        Ok(Entry {
            kind,
            link: link.unwrap_or_default(),
            size: self.content,
            mode: header.mode().map_err(broken)? & 0o7777,
            uid: id(pax.uid, header.uid())?,
            gid: id(pax.gid, header.gid())?,
            mtime: pax
                .mtime
                .map_or_else(|| seconds(header).map(|time| (time, 0)), Ok)
                .map_err(broken)?,
            xattrs: pax.xattrs,
            path,
        })
    }

    fn name(&mut self) -> Result<Vec<u8>, Fault> {
        let mut name = self.text(NAME_MAX + 1)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// The whole content of the current entry, which describes another one.
    fn text(&mut self, max: u64) -> Result<Vec<u8>, Fault> {
        if self.content > max {
            let what = "a name or an extended header of the tar stream";
            return Err(Fault::TooLarge { what, max });
        }
        let mut text = Vec::new();
        self.content().read_to_end(&mut text)?;
        Ok(text)
    }

    fn skip(&mut self) -> Result<(), Fault> {
        io::copy(&mut self.content(), &mut io::sink())?;
        let padding = io::copy(&mut (&mut self.inner).take(self.padding), &mut io::sink())?;
        if padding != self.padding {
            return Err(Fault::corrupt("the tar stream ends within an entry"));
        }
        self.padding = 0;
        Ok(())
    }
}

fn is_header_only(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

/// Reads no further than the entry.
pub(crate) struct Content<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.0.content).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.0.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(Fault::corrupt("the tar stream ends within an entry").into());
        }
        self.0.content -= count as u64;
        Ok(count)
    }
}

/// Fills the block; false at the end of the stream.
fn read_block(inner: &mut impl Read, block: &mut [u8]) -> Result<bool, Fault> {
    let mut filled = 0;
    while filled < block.len() {
        match inner.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(Fault::corrupt("the tar stream ends within a header")),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// The names of a path inside its root: `/a`, `./a` and `a` are the same.
pub(crate) fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    if path.len() as u64 > NAME_MAX || path.contains(&0) {
        return Err(Fault::corrupt("its name is too long or has a zero byte"));
    }
    let parts: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.contains(&&b".."[..]) {
        return Err(Fault::corrupt("its name leads out of the layer"));
    }
    if parts.len() > DEPTH_MAX || parts.iter().any(|part| part.len() > 255) {
        return Err(Fault::corrupt("its name is too long or too deep"));
    }
    Ok(parts)
}

/// Deepest folder: far more than anyone has, and few enough to be removed with one open file per level.
pub(crate) const DEPTH_MAX: usize = 256;
