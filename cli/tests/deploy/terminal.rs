//! `miren` as a process with a terminal of a chosen width.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
    for end in [&pty.master, &pty.slave] {
        // What other tests start has nothing to do with it.
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
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

/// Runs it with all that it writes on one terminal, and waits until that shows `shown`; then it is told to end as Ctrl-C does.
pub fn interrupted_on_terminal(mut command: Command, columns: u16, shown: &str) -> Seen {
    let (mut people, program) = terminal(columns);
    let before = tcgetattr(&people).unwrap();
    command.stderr(program.try_clone().unwrap()).stdout(program);
    let mut child = command.spawn().unwrap();
    // Kept open: the state of a terminal is looked at while it is there.
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !text.contains(shown) {
        assert!(Instant::now() < deadline, "no {shown:?} in {text:?}");
        let mut waiting = [PollFd::new(people.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, 1000_u16).unwrap() > 0 {
            let count = people.read(&mut piece).unwrap();
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let exit = child.wait().unwrap().code().unwrap();
    let after = tcgetattr(&people).unwrap();
    assert_eq!(before, after, "the terminal is not as it was");
    drop(command);
    text.push_str(&read_to_end(people));
    Seen {
        exit,
        terminal: text,
        err: String::new(),
    }
}

/// Runs it with all that it writes on one terminal.
pub fn all_on_terminal(mut command: Command, columns: u16) -> Seen {
    let (people, program) = terminal(columns);
    command.stderr(program.try_clone().unwrap()).stdout(program);
    let mut child = command.spawn().unwrap();
    drop(command);
    let terminal = read_to_end(people);
    let exit = child.wait().unwrap().code().unwrap();
    Seen {
        exit,
        terminal,
        err: String::new(),
    }
}

/// What a terminal of this width shows in the end, and whether a line was ever too long for it.
pub fn screen(written: &str, columns: usize) -> (Vec<String>, bool) {
    let mut screen = Screen {
        rows: vec![vec![' '; columns]],
        columns,
        ..Screen::default()
    };
    let mut rest = written.chars();
    while let Some(character) = rest.next() {
        match character {
            '\r' => screen.column = 0,
            '\n' => screen.down(),
            '\x1b' => screen.obey(&mut rest),
            character => screen.put(character),
        }
    }
    let shown = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
    let mut rows: Vec<String> = screen.rows.iter().map(shown).collect();
    while rows.last().is_some_and(String::is_empty) {
        rows.pop();
    }
    (rows, screen.wrapped)
}

#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    columns: usize,
    row: usize,
    column: usize,
    wrapped: bool,
}

impl Screen {
    fn down(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(vec![' '; self.columns]);
        }
    }

    fn put(&mut self, character: char) {
        if self.column >= self.columns {
            self.wrapped = true;
            self.column = 0;
            self.down();
        }
        self.rows[self.row][self.column] = character;
        self.column += miren_cli::shown::width(&character.to_string());
    }

    /// What follows an escape: moves and erasures; colours are none of either.
    fn obey(&mut self, rest: &mut std::str::Chars<'_>) {
        assert_eq!(rest.next(), Some('['), "an escape of another kind");
        let mut number = String::new();
        let word = rest
            .by_ref()
            .find(|character| {
                number.push(*character);
                character.is_ascii_alphabetic()
            })
            .unwrap();
        number.pop();
        let count: usize = number.parse().unwrap_or(1);
        match (word, number.as_str()) {
            ('A', _) => self.row = self.row.saturating_sub(count),
            ('B', _) => (0..count).for_each(|_| self.down()),
            ('K', "2") => self.rows[self.row].fill(' '),
            ('K', _) => self.rows[self.row][self.column.min(self.columns)..].fill(' '),
            ('m', _) => {}
            other => panic!("{other:?} is not known here"),
        }
    }
}
