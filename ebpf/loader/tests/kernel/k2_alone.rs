//! Decides whether the kernel goes on without any daemon of ours (K2).

use std::{io::ErrorKind, net::TcpStream};

use miren_loader::{FastPath, FastPathConfig, Mode, State, Word};

use crate::{
    lab::{Lab, Victim, occupy},
    network::{Namespace, address_of},
    roles::{Player, listen, say},
};

#[test]
fn k2_exits_and_connects_are_handled_with_every_daemon_dead() {
    let lab = Lab::new();
    let mut victim = Victim::start();
    let network = Namespace::new();
    network.ip("address add 198.51.100.20/32 dev lo");
    let listener = network.listen("198.51.100.20:0");
    let endpoint = address_of(&listener);

    let argument = format!("{} {endpoint} {}", lab.pin_dir.display(), victim.pid());
    let mut control = network.run(|| Player::start("control", &argument));
    let generation: u64 = control.hear().parse().expect("a generation");
    control.kill();

    let connect = || network.run(|| TcpStream::connect(endpoint).map(drop).map_err(|error| error.kind()));
    assert_eq!(connect(), Ok(()), "a RUNNING sandbox is not refused");
    victim.kill();
    victim.wait_for_closed_socket();
    let reader = lab.reader(Mode::Kernel);
    assert_eq!(reader.word(5), Word::new(generation, State::Dead));
    assert_eq!(connect(), Err(ErrorKind::ConnectionRefused));

    // The next daemon finds it all as it is.
    let fast_path = network.run(|| lab.kernel());
    assert_eq!(fast_path.slot(5).endpoint, Some(endpoint));
    assert_eq!(fast_path.status().transitions.by_kernel, 1);
    fast_path.release(5, generation).expect("release");
    assert_eq!(connect(), Ok(()), "an address nobody owns is not refused");
}

/// A control daemon: makes one RUNNING sandbox, says its generation, and waits to be killed.
pub fn play_control(argument: &str) {
    let arguments: Vec<_> = argument.split(' ').collect();
    let config = FastPathConfig {
        mode: Mode::Kernel,
        pin_dir: arguments[0].into(),
        table_file: "/nonexistent/miren-test-slots".into(),
        capacity: 64,
        cgroup: None,
    };
    let fast_path = FastPath::open(config).expect("opening the table");
    let pid = arguments[2].parse().expect("a pid");
    let generation = occupy(&fast_path, 5, arguments[1], pid, State::Running);
    say(&generation.to_string());
    listen();
}
