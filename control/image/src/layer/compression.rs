//! Decides how a blob is compressed: by how it begins, whatever its media type says.

use crate::error::Fault;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, Read};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The content, plain.
pub(crate) fn open<'a>(mut blob: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>, Fault> {
    let beginning = blob.fill_buf()?;
    if beginning.starts_with(GZIP) {
        return Ok(Box::new(Decoded(MultiGzDecoder::new(blob))));
    }
    if beginning.starts_with(ZSTD) {
        return Ok(Box::new(Decoded(zstd::Decoder::with_buffer(blob)?)));
    }
    Ok(Box::new(blob))
}

/// Tells what a decoder complains about from what the disk does.
struct Decoded<R>(R);

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let is_ours = error.get_ref().is_some_and(|inner| inner.is::<Fault>());
            if is_ours || error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            Fault::corrupt(format_args!("the compressed data is broken: {error}")).into()
        })
    }
}
