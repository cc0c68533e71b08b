//! Decides how the app's command is found and executed, as `execvp` of the C library does it, and what is told when it cannot be.

use crate::Texts;
use crate::gate::Failure;
use crate::system;
use core::ffi::CStr;

/// Longest path that the kernel takes, with its zero (`PATH_MAX`).
const LONGEST: usize = 4096;
/// What runs a file that names no interpreter.
const SHELL: &CStr = c"/bin/sh";

/// A command and its environment.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    words: Texts,
    environment: Texts,
}

impl Command {
    /// # Safety
    /// Both are as [`run`](crate::run) says; there is at least one word, and one place before the words that nobody needs.
    pub unsafe fn new(words: Texts, environment: Texts) -> Self {
        Self { words, environment }
    }

    /// Becomes the command; returns only why that cannot be.
    pub fn execute(&self) -> Failure {
        // SAFETY: promised to `new`.
        let name = unsafe { CStr::from_ptr(*self.words) };
        search(name, self.path(), |file| self.try_one(file))
    }

    fn path(&self) -> &[u8] {
        let mut at = self.environment;
        loop {
            // SAFETY: promised to `new`; the last one is null, and nothing behind it is read.
            let variable = unsafe { at.read() };
            if variable.is_null() {
                return b"";
            }
            // SAFETY: it is a text.
            if let Some(path) = unsafe { CStr::from_ptr(variable) }.to_bytes().strip_prefix(b"PATH=") {
                return path;
            }
            // SAFETY: it is not the last one.
            at = unsafe { at.add(1) };
        }
    }

    /// The error number.
    fn try_one(&self, file: &CStr) -> Tried {
        let mut error = system::execute(file, self.words, self.environment);
        if error == system::ENOEXEC {
            // SAFETY: promised to `new`: the place before the words is free, and nothing but `execve` reads them.
            unsafe {
                let words = self.words.sub(1);
                let name = words.add(1).replace(file.as_ptr());
                words.write(SHELL.as_ptr());
                system::execute(SHELL, words, self.environment);
                words.add(1).write(name);
            }
            error = system::ENOEXEC;
        }
        let is_there = error != system::ENOENT || system::exists(file);
        Tried { error, is_there }
    }
}

/// What came of one file.
#[derive(Clone, Copy, Debug)]
struct Tried {
    error: i32,
    is_there: bool,
}

/// Tries the file that a command names, or those that it may mean in the folders of a path.
fn search(name: &CStr, path: &[u8], mut try_one: impl FnMut(&CStr) -> Tried) -> Failure {
    if name.to_bytes().contains(&b'/') {
        return told(try_one(name));
    }
    let mut best = Failure::NotFound;
    let mut place = [0; LONGEST];
    for folder in path.split(|byte| *byte == b':') {
        let Some(file) = joined(folder, name, &mut place) else {
            continue;
        };
        match told(try_one(file)) {
            Failure::NotFound => {}
            // A later folder may have one that can.
            found @ (Failure::NotExecutable | Failure::NoInterpreter) => best = found,
            failed => return failed,
        }
    }
    best
}

fn told(tried: Tried) -> Failure {
    match tried.error {
        system::ENOENT if tried.is_there => Failure::NoInterpreter,
        system::ENOENT | system::ENOTDIR => Failure::NotFound,
        system::EACCES => Failure::NotExecutable,
        error => Failure::Refused(error),
    }
}

/// A file of a folder; no folder is the current one. None: it is too long to be there.
fn joined<'p>(folder: &[u8], name: &CStr, place: &'p mut [u8; LONGEST]) -> Option<&'p CStr> {
    let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    let mut length = 0;
    for part in [folder, separator, name.to_bytes_with_nul()] {
        place.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    CStr::from_bytes_with_nul(&place[..length]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    /// What is tried, and what is told when each file that is there gives its error.
    fn searched(name: &CStr, path: &str, there: &[(&str, i32)]) -> (Vec<String>, Failure) {
        let mut tried = Vec::new();
        let failure = search(name, path.as_bytes(), |file| {
            let file = file.to_str().expect("a text");
            tried.push(String::from(file));
            let found = there.iter().find(|(place, _)| *place == file);
            Tried {
                error: found.map_or(system::ENOENT, |(_, error)| *error),
                is_there: found.is_some(),
            }
        });
        (tried, failure)
    }

    #[test]
    fn g4_a_command_is_looked_for_in_each_folder_of_its_path() {
        let (tried, failure) = searched(c"sh", "/usr/bin::/bin", &[]);
        assert_eq!(tried, ["/usr/bin/sh", "sh", "/bin/sh"]);
        assert_eq!(failure, Failure::NotFound);
        let (tried, _) = searched(c"./sh", "/bin", &[]);
        assert_eq!(tried, ["./sh"]);
        let long = "x".repeat(LONGEST);
        let (tried, _) = searched(c"sh", &std::format!("/{long}:/bin"), &[]);
        assert_eq!(tried, ["/bin/sh"]);
    }

    #[test]
    fn g4_the_reason_is_of_the_file_that_is_there() {
        let of = |error| searched(c"app", "/a:/b:/c", &[("/b/app", error)]).1;
        assert_eq!(of(system::EACCES), Failure::NotExecutable);
        assert_eq!(of(system::ENOENT), Failure::NoInterpreter);
        assert_eq!(of(system::ENOEXEC), Failure::Refused(system::ENOEXEC));
        let (tried, _) = searched(c"app", "/a:/b", &[("/a/app", system::ENOEXEC)]);
        assert_eq!(tried, ["/a/app"], "what is there and wrong hides the rest");
        assert_eq!(searched(c"/x/app", "/b", &[]).1, Failure::NotFound);
    }
}
