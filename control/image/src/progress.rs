//! Decides what a caller is told while an image arrives.

use crate::Digest;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is known what the image consists of.
    Resolved {
        digest: Digest,
        layers: usize,
    },
    /// The layer was there already.
    Kept {
        layer: Digest,
    },
    Downloading {
        layer: Digest,
        bytes: u64,
        of: u64,
    },
    Unpacking {
        layer: Digest,
    },
    Unpacked {
        layer: Digest,
    },
}

/// Who is told; must not block.
pub type Watch<'a> = &'a (dyn Fn(Progress) + Send + Sync);
