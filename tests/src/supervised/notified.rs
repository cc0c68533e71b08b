//! What a daemon tells its supervisor (`NOTIFY_SOCKET`), read from a socket of the test's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for a message that is to come: a start, with all that it adopts.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) struct Notified {
    socket: UnixDatagram,
    pub path: PathBuf,
}

impl Notified {
    #[track_caller]
    pub fn at(path: &Path) -> Self {
        // Of an earlier one of the same test.
        let _ = fs::remove_file(path);
        let socket = UnixDatagram::bind(path).expect("making a socket");
        fs::set_permissions(path, Permissions::from_mode(0o666)).expect("opening the socket to the proxy's user");
        socket.set_read_timeout(Some(LIMIT)).expect("a timeout can be set");
        Self {
            socket,
            path: path.to_owned(),
        }
    }

    /// Waits until the process of that number says that it serves, and what it says of itself. Words of those before it are passed over.
    #[track_caller]
    pub fn ready(&self, pid: u32, log: impl Fn() -> String) -> Value {
        let mut buffer = [0; 8192];
        loop {
            let heard = self.socket.recv(&mut buffer);
            let length = heard.unwrap_or_else(|error| panic!("{pid} is not ready: {error}\n{}", log()));
            let text = String::from_utf8_lossy(&buffer[..length]);
            let facts = text.lines().find_map(|line| line.strip_prefix("X_MIREN="));
            let facts: Value = serde_json::from_str(facts.unwrap_or_default()).unwrap_or_default();
            if text.contains("READY=1") && facts["pid"] == pid {
                return facts;
            }
        }
    }
}
