//! Decides what to tell a user whose app listens, but not where it was asked to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_LISTEN` of the kernel's socket states.
const LISTEN: &str = "0A";

/// Where the processes of a sandbox listen; nothing if that cannot be read.
pub(super) fn of_process(pid: u32) -> Vec<SocketAddr> {
    let table = |name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let mut found = parse(&table("tcp"));
    found.extend(parse(&table("tcp6")));
    found
}

/// What to change, for an app that should listen on `port` and listens on `found`; `failed` is how a connection ends.
pub(super) fn advice(port: u16, found: &[SocketAddr], failed: &str) -> String {
    let list = |addresses: &[&SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let right_port: Vec<&SocketAddr> = found.iter().filter(|address| address.port() == port).collect();
    if right_port.iter().any(|address| !address.ip().is_loopback()) {
        return format!(
            "it listens on {}, but connections to it fail: {failed}",
            list(&right_port)
        );
    }
    if !right_port.is_empty() {
        let only = list(&right_port);
        return format!("it listens on {only} only: make it listen on 0.0.0.0 instead of 127.0.0.1");
    }
    if found.is_empty() {
        return "it listens on no port: is it meant to, and on 0.0.0.0 instead of 127.0.0.1?".to_owned();
    }
    format!(
        "it listens on {}: make it listen on the port in PORT",
        list(&found.iter().collect::<Vec<_>>())
    )
}

/// The listening sockets in the text of `/proc/PID/net/tcp` or `tcp6`.
fn parse(table: &str) -> Vec<SocketAddr> {
    table.lines().skip(1).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    Some(SocketAddr::new(
        parse_address(address)?,
        u16::from_str_radix(port, 16).ok()?,
    ))
}

/// Words of 32 bits, each as the machine has it in memory.
fn parse_address(digits: &str) -> Option<IpAddr> {
    let words: Option<Vec<u32>> = (0..digits.len() / 8)
        .map(|word| u32::from_str_radix(digits.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0200C80A:C350 0100C80A:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_read_from_the_kernels_table() {
        assert_eq!(parse(TABLE), ["127.0.0.1:3000".parse().expect("an address")]);
        let v6 = "sl\n 0: 00000000000000000000000001000000:1F90 0:0 0A 0\n";
        assert_eq!(parse(v6), ["[::1]:8080".parse().expect("an address")]);
    }

    #[test]
    fn b2_the_advice_fits_what_the_app_does() {
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let advice = |found: &[&str]| {
            advice(
                3000,
                &found.iter().map(|text| at(text)).collect::<Vec<_>>(),
                "timed out",
            )
        };
        assert!(advice(&["127.0.0.1:3000"]).contains("0.0.0.0 instead of 127.0.0.1"));
        assert!(advice(&["0.0.0.0:8080"]).contains("it listens on 0.0.0.0:8080"));
        assert!(advice(&["[::]:3000"]).ends_with("connections to it fail: timed out"));
        assert!(advice(&[]).contains("no port"));
    }
}
