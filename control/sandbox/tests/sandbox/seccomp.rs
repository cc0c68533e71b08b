//! Decides that the kernel refuses a sandbox what the profile says, whoever asks: its command, or one that joins it.

use crate::client::ask;
use crate::node::{TestNode, with_node};
use miren_api::resource::SandboxState;

/// What a call in a sandbox must answer.
struct Probe {
    what: &'static str,
    call: Vec<i64>,
    error: i32,
}

fn probe(what: &'static str, call: &[i64], error: i32) -> Probe {
    Probe {
        what,
        call: call.to_vec(),
        error,
    }
}

/// Numbers that every 64-bit architecture has in common.
const OPEN_TREE: i64 = 428;
const MOVE_MOUNT: i64 = 429;
const FSOPEN: i64 = 430;
const MOUNT_SETATTR: i64 = 442;
const IO_URING_SETUP: i64 = 425;
const PIDFD_GETFD: i64 = 438;
const OPEN_TREE_ATTR: i64 = 467;
const OF_THE_FUTURE: i64 = 700;

const HIGH: i64 = 1 << 32;

fn refused() -> Vec<Probe> {
    let socket = |family, protocol| [libc::SYS_socket, family, 3, protocol];
    let mut probes: Vec<Probe> = [
        ("AF_VSOCK", 40),
        ("AF_ALG", 38),
        ("AF_KEY", 15),
        ("AF_PACKET", 17),
        ("AF_TIPC", 30),
        ("AF_CAN", 29),
        ("AF_BLUETOOTH", 31),
        ("AF_SMC", 43),
        ("AF_XDP", 44),
        ("AF_RDS", 21),
        ("AF_QIPCRTR", 42),
        ("AF_VSOCK behind 32 bits", 40 | HIGH),
    ]
    .map(|(what, family)| probe(what, &socket(family, 0), libc::EAFNOSUPPORT))
    .into();
    probes.extend([
        probe("NETLINK_AUDIT", &socket(16, 9), libc::EAFNOSUPPORT),
        probe("NETLINK_NETFILTER", &socket(16, 12), libc::EAFNOSUPPORT),
        probe(
            "a pair of AF_TIPC",
            &[libc::SYS_socketpair, 30, 1, 0],
            libc::EAFNOSUPPORT,
        ),
        probe("open_tree", &[OPEN_TREE], libc::EPERM),
        probe("move_mount", &[MOVE_MOUNT], libc::EPERM),
        probe("fsopen", &[FSOPEN], libc::EPERM),
        probe("mount_setattr", &[MOUNT_SETATTR], libc::EPERM),
        probe("io_uring_setup", &[IO_URING_SETUP, 1], libc::EPERM),
        probe("pidfd_getfd", &[PIDFD_GETFD], libc::EPERM),
        probe("setns", &[libc::SYS_setns], libc::EPERM),
        probe("open_tree_attr", &[OPEN_TREE_ATTR], libc::ENOSYS),
        probe("a call of the future", &[OF_THE_FUTURE], libc::ENOSYS),
        probe("clone3", &[libc::SYS_clone3], libc::ENOSYS),
        probe(
            "clone with a user namespace",
            &[libc::SYS_clone, 0x1000_0011],
            libc::EPERM,
        ),
        probe("unshare of mounts", &[libc::SYS_unshare, 0x0002_0000], libc::EPERM),
        probe("TIOCSTI", &[libc::SYS_ioctl, 0, 0x5412], libc::EPERM),
        probe(
            "TIOCSTI behind 32 bits",
            &[libc::SYS_ioctl, 0, 0x5412 | HIGH],
            libc::EPERM,
        ),
        probe("TIOCLINUX", &[libc::SYS_ioctl, 0, 0x541c], libc::EPERM),
        probe("fixed addresses", &[libc::SYS_personality, 0x4_0000], libc::EPERM),
    ]);
    probes
}

fn allowed() -> Vec<Probe> {
    vec![
        probe("AF_UNIX", &[libc::SYS_socket, 1, 1, 0], 0),
        probe("AF_INET", &[libc::SYS_socket, 2, 1, 0], 0),
        probe("NETLINK_ROUTE", &[libc::SYS_socket, 16, 3, 0], 0),
        probe("a pair of AF_UNIX", &[libc::SYS_socketpair, 1, 1, 0], libc::EFAULT),
        probe(
            "the question for its personality",
            &[libc::SYS_personality, 0xffff_ffff],
            0,
        ),
        probe("an ioctl of no terminal", &[libc::SYS_ioctl, 0, 0x5401], libc::ENOTTY),
        probe("getpid", &[libc::SYS_getpid], 0),
        probe("memfd_create without a name", &[libc::SYS_memfd_create], libc::EFAULT),
    ]
}

#[test]
fn f5_dangerous_calls_are_refused_and_usual_ones_are_not() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let mut wrong = Vec::new();
        for Probe { what, call, error } in refused().into_iter().chain(allowed()) {
            let call: Vec<String> = call.iter().map(i64::to_string).collect();
            let answer = ask(&running, &format!("syscall/{}", call.join(",")));
            if answer != error.to_string() {
                wrong.push(format!("{what}: {answer} instead of {error}"));
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        end(node, &order).await;
    });
}

async fn end(node: &mut TestNode, order: &miren_sandbox::StartOrder) {
    node.sandboxes().kill(&order.id, "test over");
    node.until(&order.id, SandboxState::Stopped).await;
}
