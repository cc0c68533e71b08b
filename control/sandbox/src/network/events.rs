//! Decides which news of the kernel are reason to look at the rules: changes of the node's own tables, and of routes.

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use std::io;

/// linux/netlink.h, linux/netfilter/nfnetlink.h, linux/rtnetlink.h
const NETLINK_ROUTE: isize = 0;
const NETLINK_NETFILTER: isize = 12;
const GROUP_NFTABLES: u32 = 7;
const GROUP_IPV4_ROUTE: u32 = 7;
/// `nlmsghdr`, then `nfgenmsg`: attributes come after both.
const HEADER: usize = 16;
const GENERIC: usize = 4;
/// What every attribute begins with: its length and its type.
const ATTRIBUTE: usize = 4;
/// The name of the table, in messages about tables, chains, rules, sets and elements alike.
const TABLE_NAME: u16 = 1;
/// Room for one message of many.
const ROOM: usize = 64 << 10;
/// News that are forgotten at a time: somebody may make them faster than they are read.
const AT_MOST: usize = 10_000;

pub(super) struct Events {
    table: String,
    rules: TokioSocket,
    routes: TokioSocket,
}

impl Events {
    /// Of the namespace of the calling thread.
    pub(super) fn of(table: &str) -> io::Result<Self> {
        Ok(Self {
            table: table.to_owned(),
            rules: listen(NETLINK_NETFILTER, GROUP_NFTABLES)?,
            routes: listen(NETLINK_ROUTE, GROUP_IPV4_ROUTE)?,
        })
    }

    /// Waits for something that may concern the rules.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::select! {
                received = self.rules.recv_from_full() => match received {
                    Ok((message, _)) if !concerns(&message, &self.table) => {}
                    // An error says that news were lost (ENOBUFS).
                    _ => return,
                },
                _ = self.routes.recv_from_full() => return,
            }
        }
    }

    /// Forgets what has come by now.
    pub(super) fn skip(&self) {
        let mut room = Vec::with_capacity(ROOM);
        for socket in [&self.rules, &self.routes] {
            let mut left = AT_MOST;
            while left > 0 && socket.socket_ref().recv(&mut room, 0).is_ok() {
                room.clear();
                left -= 1;
            }
        }
    }
}

fn listen(protocol: isize, group: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().add_membership(group)?;
    Ok(socket)
}

/// Whether one of the messages in a datagram is about the table.
fn concerns(datagram: &[u8], table: &str) -> bool {
    let mut rest = datagram;
    while let Some(length) = long(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        if length < HEADER {
            return false;
        }
        let message = rest.get(..length).unwrap_or(rest);
        if message
            .get(HEADER + GENERIC..)
            .is_some_and(|attributes| is_about(attributes, table))
        {
            return true;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn is_about(mut attributes: &[u8], table: &str) -> bool {
    while let (Some(length), Some(kind)) = (word(attributes, 0).map(usize::from), word(attributes, 2)) {
        if length < ATTRIBUTE {
            return false;
        }
        if kind == TABLE_NAME {
            let name = attributes.get(ATTRIBUTE..length).unwrap_or_default();
            return name.strip_suffix(&[0]).unwrap_or(name) == table.as_bytes();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// Numbers in the machine's byte order.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of nftables about a table, as the kernel writes it.
    fn message(table: &str) -> Vec<u8> {
        let mut attribute = table.as_bytes().to_vec();
        attribute.push(0);
        let length = attribute.len() + ATTRIBUTE;
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        let whole = u32::try_from(HEADER + GENERIC + ATTRIBUTE + attribute.len()).expect("a short message");
        let mut message = whole.to_ne_bytes().to_vec();
        message.resize(HEADER + GENERIC, 0);
        message.extend(u16::try_from(length).expect("a short name").to_ne_bytes());
        message.extend(TABLE_NAME.to_ne_bytes());
        message.extend(attribute);
        message
    }

    #[test]
    fn f3_only_news_of_the_nodes_own_tables_are_looked_at() {
        assert!(concerns(&message("miren_dev"), "miren_dev"));
        assert!(!concerns(&message("miren_dev2"), "miren_dev"));
        assert!(!concerns(&message("filter"), "miren_dev"));
        let both = [message("filter"), message("miren_dev")].concat();
        assert!(concerns(&both, "miren_dev"), "the second of two");
        for length in 0..both.len() {
            concerns(&both[..length], "miren_dev");
        }
    }
}
