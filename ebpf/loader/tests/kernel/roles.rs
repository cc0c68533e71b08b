//! Decides what this test binary does when a test starts it again as a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const ROLE: &str = "MIREN_TEST_ROLE";

/// Another process that plays a role; it is killed when this goes away.
pub struct Player {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Player {
    /// Starts `role` with an argument for it.
    pub fn start(role: &str, argument: &str) -> Self {
        let this = std::env::current_exe().expect("this binary");
        Self::start_with(Command::new(this), role, argument)
    }

    /// Starts `role` through another program, such as `unshare`, that is killed together with it.
    pub fn start_through(program: &str, arguments: &[&str], role: &str, argument: &str) -> Self {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(std::env::current_exe().expect("this binary"));
        Self::start_with(command, role, argument)
    }

    fn start_with(mut command: Command, role: &str, argument: &str) -> Self {
        let mut child = command
            .args([
                "--exact",
                "roles::plays_the_role_another_test_gives_it",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env("MIREN_TEST_ARGUMENT", argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting another process");
        let input = child.stdin.take().expect("stdin");
        let output = BufReader::new(child.stdout.take().expect("stdout"));
        Self { child, input, output }
    }

    /// The next line the role says; panics with what came when the process ends instead.
    pub fn hear(&mut self) -> String {
        let mut all = String::new();
        loop {
            let before = all.len();
            assert!(
                self.output.read_line(&mut all).expect("reading") > 0,
                "the process ended after saying {all:?}"
            );
            // The test harness writes to the same place.
            if let Some((_, said)) = all[before..].split_once('@') {
                return said.trim_end().to_owned();
            }
        }
    }

    /// Gives the role a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("writing");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, without waiting for it to be gone.
    pub fn kill_without_waiting(&mut self) {
        self.child.kill().expect("kill");
    }

    /// Waits for its end; its raw wait status.
    pub fn wait_status(&mut self) -> u32 {
        self.child.wait().expect("wait").into_raw().cast_unsigned()
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For roles: says a line to the test.
pub fn say(line: &str) {
    println!("@{line}");
    std::io::stdout().flush().expect("flush");
}

/// For roles: waits for a line from the test; the end of the input ends the process.
pub fn listen() -> String {
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).expect("reading") == 0 {
        std::process::exit(0);
    }
    line.trim_end().to_owned()
}

#[test]
fn plays_the_role_another_test_gives_it() {
    let argument = std::env::var("MIREN_TEST_ARGUMENT").unwrap_or_default();
    match std::env::var(ROLE).as_deref() {
        Ok("control") => crate::k2_alone::play_control(&argument),
        Ok("proxy") => crate::k8_reader::play_proxy(&argument),
        Ok("nested") => crate::f11_nested::play_nested(&argument),
        Ok("threads") => crate::k1_status::play_threads(&argument),
        Ok("stranger") => crate::k7_off::play_stranger(&argument),
        Ok("client") => crate::k3_connect::play_client(&argument),
        Ok(role) => panic!("no role {role}"),
        Err(_) => {}
    }
}
