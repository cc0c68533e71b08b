//! Decides whether this process and the hooks mean the same by a pid and by a time.

use std::{io::ErrorKind, os::unix::fs::MetadataExt};

use crate::error::OpenError;

/// Kinds of namespaces that give pids and times another meaning, each with the inode number of the machine's first one: a
/// constant of the kernel's `linux/proc_ns.h`.
const FIRST: [(&str, u64); 2] = [("pid", 0xefff_fffc), ("time", 0xefff_fffa)];

/// The exit hook sees processes as the first pid namespace numbers them, and the clock without the offsets of a time
/// namespace. In another one no exit would ever be that of a registered process.
pub(super) fn check() -> Result<(), OpenError> {
    for (kind, first) in FIRST {
        let place = format!("/proc/self/ns/{kind}");
        match std::fs::metadata(&place) {
            Ok(own) if own.ino() == first => {}
            Ok(_) => return Err(OpenError::NestedNamespace { kind }),
            // A kernel without namespaces of this kind.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::io("reading", place)(error)),
        }
    }
    Ok(())
}
