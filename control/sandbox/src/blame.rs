//! Decides whose fault it is when a sandbox cannot be started: the node's, which passes without the app changing, or the app's.

use crate::image::NoImage;
use crate::network::{NetworkError, NoPlace};
use crate::runtime::LaunchError;
use miren_api::resource::NodeFault;
use miren_disk::DiskError;
use miren_image::Fault;
use std::fmt::{self, Display};
use std::io;

/// An error that tells whose fault it is. None: the app's.
pub(crate) trait Blame: Display {
    fn node_fault(&self) -> Option<NodeFault>;
}

/// What went wrong in one step, and whose fault that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) text: String,
    pub(crate) node_fault: Option<NodeFault>,
}

impl Why {
    pub(crate) fn of(error: &impl Blame) -> Self {
        Self {
            text: error.to_string(),
            node_fault: error.node_fault(),
        }
    }

    /// Of the node, whatever else is known of it.
    pub(crate) fn node(fault: NodeFault, text: String) -> Self {
        let node_fault = Some(fault);
        Self { text, node_fault }
    }
}

impl From<String> for Why {
    fn from(text: String) -> Self {
        let node_fault = None;
        Self { text, node_fault }
    }
}

impl From<Why> for String {
    fn from(why: Why) -> Self {
        why.text
    }
}

impl From<&str> for Why {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// What the kernel refused because of the state of the machine, not because of what was asked.
fn of_errno(errno: i32) -> Option<NodeFault> {
    match errno {
        libc::ENOSPC | libc::EDQUOT => Some(NodeFault::DiskFull),
        libc::EIO | libc::EROFS | libc::ESTALE => Some(NodeFault::DiskBroken),
        libc::ENOMEM | libc::ENOBUFS => Some(NodeFault::Memory),
        libc::EMFILE | libc::ENFILE => Some(NodeFault::Files),
        libc::EAGAIN => Some(NodeFault::Processes),
        _ => None,
    }
}

/// The same of the words of a program that has no other way to say it. Only how they end counts: the rest may have names in it
/// that an app chose. `EAGAIN` is left out: a sandbox meets it at a limit of its own; and `EROFS`: a runtime meets it where an app
/// asks for a mount in what is shown read-only.
fn of_words(words: &str) -> Option<NodeFault> {
    const ENDS: [(&str, NodeFault); 8] = [
        ("no space left on device", NodeFault::DiskFull),
        ("no space left", NodeFault::DiskFull),
        ("disk quota exceeded", NodeFault::DiskFull),
        ("input/output error", NodeFault::DiskBroken),
        ("cannot allocate memory", NodeFault::Memory),
        ("no buffer space available", NodeFault::Memory),
        ("too many open files", NodeFault::Files),
        ("too many open files in system", NodeFault::Files),
    ];
    let words = words.trim_end().to_lowercase();
    let words = words.strip_suffix(": unknown").unwrap_or(&words);
    let words = words.rsplit_once(" (os error ").map_or(words, |(before, _)| before);
    let last = words.rsplit(": ").next().unwrap_or(words);
    ENDS.into_iter().find(|(end, _)| last == *end).map(|(_, fault)| fault)
}

impl Blame for io::Error {
    fn node_fault(&self) -> Option<NodeFault> {
        match self.raw_os_error() {
            Some(errno) => of_errno(errno),
            None => of_words(&self.to_string()),
        }
    }
}

impl Blame for Why {
    fn node_fault(&self) -> Option<NodeFault> {
        self.node_fault
    }
}

impl Blame for miren_fault::Fault {
    fn node_fault(&self) -> Option<NodeFault> {
        None
    }
}

impl Blame for String {
    fn node_fault(&self) -> Option<NodeFault> {
        of_words(self)
    }
}

impl Blame for NoPlace {
    fn node_fault(&self) -> Option<NodeFault> {
        Some(NodeFault::NoPlace)
    }
}

impl Blame for NetworkError {
    fn node_fault(&self) -> Option<NodeFault> {
        let known = match self {
            Self::Io { source, .. } => source.node_fault(),
            other => of_words(&other.to_string()),
        };
        Some(known.unwrap_or(NodeFault::Network))
    }
}

impl Blame for NoImage {
    fn node_fault(&self) -> Option<NodeFault> {
        match self {
            Self::Gone(_) => None,
            Self::NoStore => Some(NodeFault::Images),
            Self::Unusable(error) => match &error.fault {
                Fault::NoSpace => Some(NodeFault::DiskFull),
                Fault::Io(error) => Some(error.node_fault().unwrap_or(NodeFault::Images)),
                Fault::Corrupt(_) => Some(NodeFault::Images),
                _ => None,
            },
        }
    }
}

/// Of an image that could not be fetched. What a registry sends and says is its own.
pub fn node_fault_of_pull(fault: &Fault) -> Option<NodeFault> {
    match fault {
        Fault::NoSpace => Some(NodeFault::DiskFull),
        Fault::Io(error) => node_fault_of_io(error),
        _ => None,
    }
}

/// Of what the node itself was doing with a file.
pub fn node_fault_of_io(error: &io::Error) -> Option<NodeFault> {
    error.raw_os_error().and_then(of_errno)
}

impl Blame for LaunchError {
    fn node_fault(&self) -> Option<NodeFault> {
        match self {
            Self::Spawn { source, .. } => Some(source.node_fault().unwrap_or(NodeFault::Program)),
            Self::Helper(error) => Some(error.node_fault().unwrap_or(NodeFault::Runtime)),
            Self::Away(_) | Self::Silent(_) => Some(NodeFault::Runtime),
            Self::Refused(words) => of_words(words),
        }
    }
}

impl Blame for DiskError {
    fn node_fault(&self) -> Option<NodeFault> {
        match self {
            Self::NoSpace { .. } => Some(NodeFault::DiskFull),
            Self::MissingProgram { .. } => Some(NodeFault::Program),
            Self::Io { source, .. } => source.node_fault(),
            Self::Failed { detail, .. } => of_words(detail),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn f9_what_the_kernel_refused_for_want_of_something_is_the_nodes() {
        let table = [
            (libc::ENOSPC, Some(NodeFault::DiskFull)),
            (libc::EDQUOT, Some(NodeFault::DiskFull)),
            (libc::EIO, Some(NodeFault::DiskBroken)),
            (libc::EROFS, Some(NodeFault::DiskBroken)),
            (libc::ENOMEM, Some(NodeFault::Memory)),
            (libc::EMFILE, Some(NodeFault::Files)),
            (libc::ENFILE, Some(NodeFault::Files)),
            (libc::EAGAIN, Some(NodeFault::Processes)),
            (libc::ENOENT, None),
            (libc::EACCES, None),
            (libc::ENOEXEC, None),
            (libc::ELOOP, None),
        ];
        for (errno, expected) in table {
            assert_eq!(io(errno).node_fault(), expected, "{}", io(errno));
        }
    }

    #[test]
    fn f9_words_count_by_how_they_end_and_not_by_a_name_an_app_chose() {
        let table = [
            (
                "creating the sandbox: mkdir /run/x: no space left on device: unknown",
                Some(NodeFault::DiskFull),
            ),
            (
                "creating the sandbox: writing: No space left on device (os error 28)",
                Some(NodeFault::DiskFull),
            ),
            ("making disk /var/lib/d: no space left", Some(NodeFault::DiskFull)),
            (
                "fork/exec /proc/self/exe: cannot allocate memory: unknown",
                Some(NodeFault::Memory),
            ),
            ("open /dev/null: too many open files", Some(NodeFault::Files)),
            (
                "error mounting \"/disk\": mkdirat /usr/data: read-only file system: unknown",
                None,
            ),
            ("command not found: no space left on device.sh", None),
            (
                "chdir to \"/no space left on device\" failed: no such file or directory: unknown",
                None,
            ),
            ("resource temporarily unavailable", None),
            ("command not found: ./serve", None),
        ];
        for (words, expected) in table {
            assert_eq!(words.to_owned().node_fault(), expected, "{words}");
        }
    }

    #[test]
    fn f9_a_pull_that_finds_the_disk_full_is_the_nodes_and_what_a_registry_says_is_not() {
        let fault = |fault: Fault| node_fault_of_pull(&fault);
        assert_eq!(fault(Fault::NoSpace), Some(NodeFault::DiskFull));
        assert_eq!(fault(Fault::Io(io(libc::EIO))), Some(NodeFault::DiskBroken));
        assert_eq!(fault(Fault::Io(io(libc::EMFILE))), Some(NodeFault::Files));
        for own in [
            Fault::Io(io(libc::ENAMETOOLONG)),
            Fault::Io(io::Error::other("no space left on device")),
            Fault::Unreachable("no space left on device".into()),
            Fault::Corrupt("the disk is full".into()),
            Fault::NotFound(String::new()),
        ] {
            assert_eq!(node_fault_of_pull(&own), None, "{own}");
        }
    }

    #[test]
    fn f9_each_source_has_its_name() {
        let spawn = |errno| LaunchError::Spawn {
            program: "/usr/bin/miren-control".into(),
            source: io(errno),
        };
        assert_eq!(spawn(libc::ENOENT).node_fault(), Some(NodeFault::Program));
        assert_eq!(spawn(libc::EAGAIN).node_fault(), Some(NodeFault::Processes));
        assert_eq!(spawn(libc::ENOMEM).node_fault(), Some(NodeFault::Memory));
        assert_eq!(
            LaunchError::Away("containerd".into()).node_fault(),
            Some(NodeFault::Runtime)
        );
        assert_eq!(
            LaunchError::Silent(String::new()).node_fault(),
            Some(NodeFault::Runtime)
        );
        assert_eq!(LaunchError::Refused("command not found: a".into()).node_fault(), None);
        let full = NoPlace::Slots { taken: 1, resting: 0 };
        assert_eq!(full.node_fault(), Some(NodeFault::NoPlace));
        assert_eq!(NoImage::NoStore.node_fault(), Some(NodeFault::Images));
        let missing = DiskError::MissingProgram {
            program: "mkfs.ext4",
            package: "e2fsprogs",
        };
        assert_eq!(missing.node_fault(), Some(NodeFault::Program));
        let wrong = DiskError::Invalid { what: "a size".into() };
        assert_eq!(wrong.node_fault(), None);
    }
}
