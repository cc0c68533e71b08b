//! Decides which switches of the kernel's network are set: forwarding on this machine, IPv6 off and ports free where sandboxes are.

use std::io;
use std::path::{Path, PathBuf};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const FIRST_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// Switches IPv4 forwarding on, if it is off.
pub(super) fn allow_forwarding() -> io::Result<()> {
    if std::fs::read_to_string(FORWARDING)?.trim() == "0" {
        std::fs::write(FORWARDING, "1")?;
        tracing::info!("switched net.ipv4.ip_forward on: sandboxes need it to reach other networks");
    }
    Ok(())
}

/// Takes IPv6 away from an interface of this machine: it would get a link-local address, at which every service that
/// listens on `[::]` is reached.
pub(super) fn without_ipv6(interface: &str) -> io::Result<()> {
    switch_off(&[interface])
}

/// Takes IPv6 away from the interfaces of the calling thread's namespace, and from those it will have. Loopback keeps
/// `::1`, which leads nowhere else.
pub(super) fn only_loopback_has_ipv6() -> io::Result<()> {
    switch_off(&["all", "default"])?;
    write(&conf("lo"), "0")
}

/// Lets anybody in the calling thread's namespace listen on ports below 1024: they are no privilege where all ports are its own.
pub(super) fn ports_are_free() -> io::Result<()> {
    write(Path::new(FIRST_PORT), "0")
}

fn switch_off(names: &[&str]) -> io::Result<()> {
    names.iter().try_for_each(|name| write(&conf(name), "1"))
}

fn conf(name: &str) -> PathBuf {
    Path::new(IPV6).join(name).join("disable_ipv6")
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    match std::fs::write(path, value) {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !Path::new(IPV6).exists() => Ok(()),
        written => written,
    }
}
