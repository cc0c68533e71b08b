//! How a disk is copied while it is written to: its file system stands still until the copy has all of its bytes.

use super::freeze::Frozen;
use super::{Context, IMAGE, Image, copy, mounting, new_file};
use crate::error::DiskError;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

/// Copies an image into the folder of a disk that is being made.
///
/// Where the machine's file system can share blocks, writers wait for a moment. Else they wait for as long as copying
/// takes; when that is longer than [`crate::Limits::frozen`], they go on and the snapshot fails.
pub(crate) fn snapshot(image: &Image<'_>, into: &Path, context: &Context) -> Result<(), DiskError> {
    let path = into.join(IMAGE);
    let copying = |error: std::io::Error| DiskError::io("copying to", &path)(error);
    let file = new_file(&path)?;
    context.steps.reached("copy made");
    file.set_len(image.length).map_err(copying)?;
    // Tried first while nobody waits: what is shared here is shared anew below.
    let shares = copy::share(&image.file, &file).map_err(copying)?;
    if !shares {
        copy::reserve(&file, image.length).map_err(copying)?;
    }
    context.steps.reached("copy reserved");
    let frozen = match mounting::place(image)? {
        Some((_, mount)) => Some(Frozen::freeze(&mount.point)?),
        None => None,
    };
    context.steps.reached("frozen");
    let whole = fill(image, &file, shares, Instant::now() + context.limits.frozen).map_err(copying)?;
    context.steps.reached("copied");
    frozen.map_or(Ok(()), Frozen::thaw)?;
    if !whole {
        return Err(DiskError::Failed {
            doing: format!("snapshot of disk {}", image.id()),
            detail: format!("was not done within {:?}", context.limits.frozen),
        });
    }
    // A shared block is not reserved: the first write to it needs room.
    copy::reserve(&file, image.length)
        .and_then(|()| file.sync_all())
        .map_err(copying)?;
    context.steps.reached("copy synced");
    Ok(())
}

fn fill(image: &Image<'_>, to: &File, shares: bool, deadline: Instant) -> std::io::Result<bool> {
    if shares {
        copy::share(&image.file, to)
    } else {
        copy::bytes(&image.file, to, image.length, deadline)
    }
}
