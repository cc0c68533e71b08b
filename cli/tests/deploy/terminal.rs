//! `miren` as a process with a terminal of a chosen width.

use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a program wrote to its terminal, and beside it.
pub struct Seen {
    pub exit: i32,
    pub terminal: String,
    pub err: String,
}

/// The two ends of a terminal: the one that people look at, and the program's.
pub fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    (File::from(pty.master), pty.slave)
}

/// `miren LINE` with `--server` set, and nothing of the environment that decides how it speaks.
pub fn miren(line: &str, socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_miren"));
    command
        .args(line.split(' '))
        .arg(format!("--server=unix:{}", socket.display()))
        .env_remove("NO_COLOR")
        .env_remove("COLUMNS")
        .env_remove("MIREN_APP")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    command
}

/// All that is written until nobody has the program's end any more.
pub fn read_to_end(mut people: File) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    // The last writer's end shows as an error (EIO), not as the end of a file.
    while let Ok(count @ 1..) = people.read(&mut piece) {
        text.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(text).unwrap()
}

/// Runs it with stdout on a terminal.
pub fn results_on_terminal(mut command: Command, columns: u16) -> Seen {
    let (people, program) = terminal(columns);
    let child: Child = command.stdout(program).stderr(Stdio::piped()).spawn().unwrap();
    // It holds the program's end, as the child does.
    drop(command);
    let terminal = read_to_end(people);
    let output = child.wait_with_output().unwrap();
    Seen {
        exit: output.status.code().unwrap(),
        terminal: terminal.replace("\r\n", "\n"),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
