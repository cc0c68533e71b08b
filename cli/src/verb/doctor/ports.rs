//! Who listens on the ports that the proxy wants, as the kernel's tables of sockets tell it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State of a socket that listens, in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A process with a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As the kernel has its name; empty where that cannot be seen.
    pub program: String,
    pub pid: Option<u32>,
}

/// Each of `wanted`, and who has it.
pub fn look(wanted: &[SocketAddr]) -> Vec<(SocketAddr, Option<Holder>)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let texts = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let listening: Vec<(SocketAddr, u64)> = texts.iter().flat_map(|text| listening(text)).collect();
    let taken = |wanted: &SocketAddr| listening.iter().find(|(other, _)| clash(*wanted, *other));
    let inodes: Vec<u64> = wanted.iter().filter_map(taken).map(|(_, inode)| *inode).collect();
    let holders = holders(&inodes);
    let holder = |inode: u64| {
        holders.get(&inode).cloned().unwrap_or(Holder {
            program: String::new(),
            pid: None,
        })
    };
    let seen = |wanted: &SocketAddr| (*wanted, taken(wanted).map(|(_, inode)| holder(*inode)));
    wanted.iter().map(seen).collect()
}

/// Addresses and inodes of the sockets that listen, from the text of one of the kernel's tables.
fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_listening = fields.get(3) == Some(&LISTEN);
        let address = fields.get(1).filter(|_| is_listening)?;
        Some((address_of(address)?, fields.get(9)?.parse().ok()?))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// `0100007F:1F90`: words of the address in the order of this machine, then the port.
fn address_of(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        u32::from_str_radix(address.get(at..at + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(index * 8)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Whether one who listens at `other` keeps another from listening at `wanted`.
fn clash(wanted: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (wanted.ip(), other.ip());
    // Of version 6, every address includes those of version 4.
    let all = |ip: IpAddr, of: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || of.is_ipv4());
    wanted.port() == other.port() && (a.to_canonical() == b.to_canonical() || all(a, b) || all(b, a))
}

/// Processes that have these sockets open, as far as this one may see that.
fn holders(inodes: &[u64]) -> BTreeMap<u64, Holder> {
    let mut found = BTreeMap::new();
    if inodes.is_empty() {
        return found;
    }
    let links: Vec<(u64, String)> = inodes
        .iter()
        .map(|inode| (*inode, format!("socket:[{inode}]")))
        .collect();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for link in open.filter_map(|file| fs::read_link(file.path()).ok()) {
            if let Some((inode, _)) = links.iter().find(|(_, text)| link.as_os_str() == text.as_str()) {
                let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let program = program.trim_end().to_owned();
                found.entry(*inode).or_insert(Holder {
                    program,
                    pid: Some(pid),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn g18_the_kernels_table_is_read_as_it_stands() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
                     1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n   \
                     2: 00000000000000000000000001000000:0050 0:0 0A 0:0 0:0 0 0 0 4713 1\n";
        assert_eq!(
            listening(table),
            [
                ("127.0.0.1:8080".parse().unwrap(), 4711),
                ("[::1]:80".parse().unwrap(), 4713)
            ]
        );
        assert_eq!(listening("nonsense\n 0: x 0A\n 1: 00:00 a 0A\n"), []);
    }

    #[test]
    fn g18_a_port_is_taken_by_its_own_address_and_by_all_of_them() {
        for (wanted, other, taken) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "0.0.0.0:81", false),
            ("0.0.0.0:80", "[::]:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
        ] {
            assert_eq!(
                clash(wanted.parse().unwrap(), other.parse().unwrap()),
                taken,
                "{wanted} {other}"
            );
        }
    }

    #[test]
    fn g18_a_socket_of_this_process_is_found_with_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = look(&[address]);
        let holder = seen[0].1.as_ref().unwrap();
        assert_eq!(holder.pid, Some(std::process::id()));
    }
}
