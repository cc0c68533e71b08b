//! Decides whether a folder can be given to a builder: what the builder reads as the host must be in the folder itself.

use crate::error::BuildError;
use std::io;
use std::path::Path;

/// Largest Dockerfile that is read, in bytes.
const DOCKERFILE_MAX: u64 = 1 << 20;
/// Read by builders from the folder, beside the Dockerfile.
const IGNORED: &[&str] = &[".dockerignore", ".containerignore"];

/// The text of the Dockerfile. A link out of the folder would have the builder show a file of the host in its complaints.
pub(crate) fn check(folder: &Path, dockerfile: &str) -> Result<String, BuildError> {
    let folder = folder
        .canonicalize()
        .map_err(BuildError::io("opening the folder", folder))?;
    let beside = format!("{dockerfile}.dockerignore");
    for file in IGNORED.iter().copied().chain([beside.as_str()]) {
        match within(&folder, file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(outside(file)),
        }
    }
    match within(&folder, dockerfile) {
        Ok(true) => {}
        Ok(false) => return Err(outside(dockerfile)),
        Err(source) => return Err(BuildError::io("reading", dockerfile)(source)),
    }
    let text = std::fs::read(folder.join(dockerfile)).map_err(BuildError::io("reading", dockerfile))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn outside(file: &str) -> BuildError {
    BuildError::Outside { file: file.to_owned() }
}

/// Whether it is a file of a sensible size below the folder.
fn within(folder: &Path, file: &str) -> io::Result<bool> {
    let path = match folder.join(file).symlink_metadata() {
        // A link to nothing is there all the same.
        Ok(found) if found.is_symlink() => match folder.join(file).canonicalize() {
            Ok(path) => path,
            Err(_) => return Ok(false),
        },
        Ok(_) => folder.join(file).canonicalize()?,
        Err(error) => return Err(error),
    };
    let metadata = path.metadata()?;
    Ok(path.starts_with(folder) && metadata.is_file() && metadata.len() <= DOCKERFILE_MAX)
}
