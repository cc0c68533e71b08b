//! Decides how large a record may be when it is made: what is noted in it later has room within one transaction too.

use crate::store::BYTES_MAX;
use miren_api::{ApiError, ErrorCode};
use serde::Serialize;
use std::io;

/// Most bytes of what people ask for in one record; a deploy's steps, a pool's claims and the names around it have the rest.
pub const ASKED_MAX: usize = BYTES_MAX - (256 << 10);

/// Refuses what no record could keep, where it is asked for: nothing is noted that can never be written.
///
/// # Errors
/// `too_large`.
pub fn check(asked: &impl Serialize) -> Result<(), ApiError> {
    let mut counted = Counted(0);
    let written = serde_json::to_writer(&mut counted, asked);
    if let Err(error) = written {
        let why = format!("writing what was asked for as JSON: {error}");
        return Err(ApiError::new(ErrorCode::Internal, why));
    }
    if counted.0 <= ASKED_MAX {
        return Ok(());
    }
    let bytes = counted.0;
    let why = format!("its settings and variables are {bytes} bytes as they are kept, more than {ASKED_MAX}");
    let error = ApiError::new(ErrorCode::TooLarge, why);
    Err(error.remedy("set fewer or shorter variables, or put what is in them in files of the folder"))
}

/// Only how much was written.
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
