//! The most that an app's settings may ask for, and the checks of single texts in them.

use super::Base;
use crate::settings::{Bytes, parse_duration};
use std::time::Duration;

/// Largest `app.toml` or `Procfile` that is read.
pub const FILE_MAX: usize = 256 << 10;
/// Most services of one app.
pub const SERVICES_MAX: usize = 64;
/// Most variables in one `env` list.
pub const VARIABLES_MAX: usize = 256;
/// Longest name of a variable, in bytes.
pub const VARIABLE_NAME_MAX: usize = 255;
/// Longest value of a variable, in bytes: with its name it stays below the 128 KiB that Linux takes (`execve(2)`).
pub const VALUE_MAX: usize = 64 << 10;
/// Longest command, in bytes: it may become one argument of a shell, which has the same limit as a variable.
pub const COMMAND_MAX: usize = 64 << 10;
/// Longest path or pattern, in bytes.
pub const PATH_MAX: usize = 4096;
/// Longest time a user may set for anything that holds a resource: a day.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `text`, unless it has more than `most` bytes or one that is zero, which nothing that the kernel is given may have.
fn text(text: &str, most: usize) -> Result<String, String> {
    if text.contains('\0') {
        Err("contains a zero byte".to_owned())
    } else if text.len() > most {
        Err(format!("has {} bytes, more than {most}", text.len()))
    } else {
        Ok(text.to_owned())
    }
}

/// Checks the name of an environment variable that a user may set.
///
/// # Errors
/// Why it is none, or that only the system sets it.
pub fn check_variable(name: &str) -> Result<String, String> {
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(format!("{name:?} is not a name of an environment variable"));
    }
    if name == "PORT" || name.starts_with("MIREN_") {
        return Err(format!("{name} is set by the system; choose another name"));
    }
    text(name, VARIABLE_NAME_MAX)
}

/// Checks the value of an environment variable.
///
/// # Errors
/// That it has a zero byte, or more than [`VALUE_MAX`].
pub fn check_value(value: &str) -> Result<String, String> {
    text(value, VALUE_MAX)
}

pub(super) fn command(command: &str) -> Result<String, String> {
    match command.trim() {
        "" => Err("is empty".to_owned()),
        command => text(command, COMMAND_MAX),
    }
}

/// Longest name of an image, in bytes: a registry, a repository of 255, a tag of 128, a digest.
const IMAGE_MAX: usize = 1024;

/// The name of an image, as far as can be told without asking.
pub(super) fn image(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    match name.chars().find(|c| !c.is_ascii_graphic()) {
        Some(odd) => Err(format!("{name:?} is no name of an image: it has {odd:?}")),
        None if super::dockerfile_of(name).is_some() => Err(format!(
            "{name:?} is no name of an image; set build.dockerfile to build one"
        )),
        None => text(name, IMAGE_MAX),
    }
}

/// A word of its own, or the name of an image.
pub(super) fn base(name: &str) -> Result<Base, String> {
    match name {
        "host" => Ok(Base::Host),
        "scratch" => Ok(Base::Scratch),
        name => image(name).map(Base::Image),
    }
}

/// A pattern as in `.gitignore`.
pub(super) fn pattern(pattern: &str) -> Result<String, String> {
    match pattern.trim() {
        "" => Err("is empty".to_owned()),
        _ => text(pattern, PATH_MAX),
    }
}

/// A path as the kernel takes it, and as a line of text can show it.
pub(super) fn path(path: &str) -> Result<String, String> {
    match path.chars().find(|c| c.is_control()) {
        Some(odd) => Err(format!("{path:?} has {odd:?}")),
        None => text(path, PATH_MAX),
    }
}

/// A path and query as they stand in the first line of an HTTP request.
pub(super) fn http_path(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("{path:?} does not start with '/'"));
    }
    match path.chars().find(|c| !c.is_ascii_graphic()) {
        Some(odd) => Err(format!("{path:?} has {odd:?}; write it percent-encoded")),
        None => text(path, PATH_MAX),
    }
}

/// Sizes of a sandbox's memory that make sense: some process starts, and some machine has it.
pub(super) fn memory(size: Bytes) -> Result<Bytes, String> {
    match size {
        size if size < Bytes(4 << 20) => Err(format!("{size} is less than 4MiB, which no process starts in")),
        size if size > Bytes(16 << 40) => Err(format!("{size} is more than 16384GiB")),
        size => Ok(size),
    }
}

/// A duration of at most [`LONGEST`].
pub(super) fn bounded(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        duration if duration <= LONGEST => Ok(duration),
        _ => Err(format!("{text:?} is longer than a day")),
    }
}

/// A duration of at most [`LONGEST`] that is not nothing.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match bounded(text)? {
        Duration::ZERO => Err(format!("{text:?} leaves no time at all")),
        duration => Ok(duration),
    }
}
