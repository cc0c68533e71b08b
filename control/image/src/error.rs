//! Decides how failures are told apart, and that each says what was being done to which thing.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What was being done, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {fault}")]
pub struct ImageError {
    /// The action and what it was done to, from the outside in.
    pub doing: String,
    pub fault: Fault,
}

/// Why something failed; one variant for each way to answer it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It was asked for in a way that cannot be answered.
    #[error("{0}")]
    Invalid(String),
    #[error("not found: {0}")]
    NotFound(String),
    #[error("not allowed: {0}")]
    Unauthorized(String),
    /// Nobody answers there, or answers that it cannot now; another try may help.
    #[error("{0}")]
    Unreachable(String),
    #[error("{what} took longer than {limit:?}")]
    TimedOut { what: &'static str, limit: Duration },
    /// The content is not what its name or its format says.
    #[error("{0}")]
    Corrupt(String),
    #[error("{what} is more than {max}")]
    TooLarge { what: &'static str, max: u64 },
    #[error("{0}")]
    Unsupported(String),
    #[error("the disk is full")]
    NoSpace,
    #[error("{0}")]
    Io(io::Error),
}

impl Fault {
    /// The error, once it is known what was being done.
    pub(crate) fn during(self, doing: impl Display) -> ImageError {
        ImageError {
            doing: doing.to_string(),
            fault: self,
        }
    }

    pub(crate) fn corrupt(why: impl Display) -> Self {
        Self::Corrupt(why.to_string())
    }

    pub(crate) fn unsupported(why: impl Display) -> Self {
        Self::Unsupported(why.to_string())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        // A reader of ours that meets a fault can only say so through an I/O error.
        match error.downcast::<Self>() {
            Ok(fault) => fault,
            Err(error) if matches!(error.kind(), StorageFull | QuotaExceeded) => Self::NoSpace,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => error,
            fault => Self::other(fault),
        }
    }
}

impl ImageError {
    /// The same error inside a larger action.
    pub(crate) fn within(self, outer: impl Display) -> Self {
        Self {
            doing: format!("{outer}: {}", self.doing),
            fault: self.fault,
        }
    }
}

/// For `map_err` on what touches the disk.
pub(crate) fn at<E: Into<Fault>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> ImageError {
    move |error| error.into().during(format_args!("{doing} {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_way_through_a_reader() {
        let error = io::Error::from(Fault::TooLarge {
            what: "the unpacked image",
            max: 7,
        });
        let fault = Fault::from(error);
        assert!(matches!(fault, Fault::TooLarge { max: 7, .. }), "{fault:?}");
    }

    #[test]
    fn a_full_disk_is_told_apart_and_the_action_is_named() {
        let full = rustix::io::Errno::NOSPC;
        let error = at("writing", Path::new("/x"))(full).within("pulling nginx");
        assert_eq!(error.to_string(), "pulling nginx: writing /x: the disk is full");
    }
}
