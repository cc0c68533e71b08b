//! How many client connections the process's limit of descriptors leaves room for.

use crate::config::Limits;
use crate::error::StartError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// What the proxy needs for itself: libraries and files, the runtime, the slot table, listeners, the log, connections to
/// control, and [`crate::life::admin`]'s connections.
pub const OWN: u64 = 256;
/// Most client connections unless more are asked for: 300 MiB while they are idle.
const MOST: usize = 100_000;

/// Raises the limit of this process to what it may be raised to, and returns it.
///
/// # Errors
/// When the limits cannot be read or set.
pub fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// `limits.connections` as a number, of a process that may have `descriptors`: what is set, or what is left beside the
/// proxy's own and those of connections to sandboxes.
///
/// # Errors
/// When more is set than is left.
pub fn connections(limits: &Limits, descriptors: u64) -> Result<usize, StartError> {
    let beside = descriptors.saturating_sub(OWN);
    // Small limits are shared with connections to sandboxes, of which each request needs one.
    let upstream = (limits.upstream_idle as u64).min(beside / 2);
    let left = usize::try_from(beside - upstream).unwrap_or(usize::MAX);
    match limits.connections {
        0 => Ok(left.clamp(1, MOST)),
        wanted if wanted <= left => Ok(wanted),
        wanted => Err(StartError::TooManyConnections {
            wanted,
            left,
            descriptors,
            needed: wanted as u64 + OWN + (limits.upstream_idle as u64).min(wanted as u64),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn limits(text: &str) -> Limits {
        Config::parse(Path::new("proxy.toml"), text).unwrap().limits
    }

    fn settled(text: &str, descriptors: u64) -> usize {
        connections(&limits(text), descriptors).unwrap()
    }

    #[test]
    fn f13_a_reserve_is_left_for_sandboxes_and_the_proxy_itself() {
        assert_eq!(settled("", 20_000), 20_000 - 256 - 4096);
        assert_eq!(settled("limits.upstream_idle = 100", 20_000), 20_000 - 256 - 100);
        assert_eq!(settled("", 1024), 384, "half of what is left");
        assert_eq!(settled("", 1_048_576), MOST);
        assert_eq!(settled("", 100), 1, "it serves, one after the other");
    }

    #[test]
    fn f13_what_the_descriptors_do_not_leave_is_an_error_that_says_what_would_do() {
        let text = "limits.connections = 15648";
        assert_eq!(settled(text, 20_000), 15_648);
        let error = connections(&limits(text), 19_999).unwrap_err().to_string();
        for part in ["limits.connections", "15648", "15647", "19999", "LimitNOFILE", "20000"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
        assert_eq!(settled(text, 20_000), 15_648, "what it says would do does");
        assert_eq!(settled("limits.connections = 500000", 1_048_576), 500_000);
    }

    #[test]
    fn f13_the_limit_is_raised_to_what_is_allowed() {
        let raised = raise().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
    }
}
