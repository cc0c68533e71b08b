//! Decides what a command that somebody speaks with has as its inputs and outputs: the pipes that the daemon made, or a terminal.

use crate::bundle::ExecDir;
use libcontainer::container::builder::ContainerBuilder;
use std::fs::File;
use std::io;

/// Gives a container that is about to be made what the daemon holds the other ends of.
pub(super) fn give(builder: ContainerBuilder, exec: &ExecDir) -> io::Result<ContainerBuilder> {
    if exec.has_terminal {
        return Ok(builder.with_console_socket(Some(exec.console())));
    }
    let stdin = match exec.has_input {
        true => File::open(exec.stdin())?,
        false => File::open("/dev/null")?,
    };
    let written = |path| File::options().write(true).open(path);
    Ok(builder
        .with_stdin(stdin)
        .with_stdout(written(exec.stdout())?)
        .with_stderr(written(exec.stderr())?))
}
