//! Decides which segments on their way to a sandbox are answered with a TCP reset, and what it looks like.
//!
//! Headers are arrays of words as they are on the wire: few enough values for the verifier's registers and stack, and
//! nothing that could not run in a host test.

use miren_abi::Word;

#[cfg(test)]
mod tests;

/// An Ethernet header in 16-bit words, as on the wire.
pub type Ethernet = [u16; 7];
/// An IPv4 header without options in 32-bit words, as on the wire.
pub type Ipv4 = [u32; 5];
/// An IPv6 header in 32-bit words, as on the wire.
pub type Ipv6 = [u32; 10];
/// A TCP header without options in 32-bit words, as on the wire.
pub type Tcp = [u32; 5];

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A whole packet, 2 bytes into the record so that what comes after Ethernet is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Reset<Ip> {
    unused: u16,
    ethernet: Ethernet,
    ip: Ip,
    tcp: Tcp,
}

/// What is answered of all that goes to one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// All of it is let through.
    Nothing,
    /// First segments of connections. Those that are open go on.
    NewConnections,
    /// All segments.
    Everything,
}

impl Answered {
    /// What is answered of what goes to an address of `generation`. The connect hook has refused what it could; here comes
    /// what was opened in a namespace it knows nothing of, or on another machine.
    #[inline(always)]
    pub const fn of(word: Word, generation: u64) -> Self {
        if word.resets_connections(generation) {
            Self::Everything
        } else if word.refuses_connections(generation) {
            Self::NewConnections
        } else {
            Self::Nothing
        }
    }

    /// Whether this segment is, if it is TCP at all.
    #[inline(always)]
    pub const fn is_for(self, tcp: &Tcp) -> bool {
        match self {
            Self::Nothing => false,
            Self::NewConnections => u32::from_be(tcp[3]) >> 16 & (SYN | ACK) == SYN,
            Self::Everything => true,
        }
    }
}

const PROTOCOL_TCP: u32 = 6;
const FIN: u32 = 0x01;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;
/// Bytes of a TCP header without options.
const TCP_BYTES: u32 = 20;
/// Bytes of an IPv4 header without options.
const IPV4_BYTES: u32 = 20;
const HOP_LIMIT: u32 = 64;
/// Version 4, five words of header, no type of service; the length follows.
const IPV4_START: u32 = 0x4500_0000;
const DONT_FRAGMENT: u32 = 0x4000;
/// "More fragments" and the offset of this one.
const FRAGMENT: u32 = 0x3fff;

impl<Ip> Reset<Ip> {
    /// Length on the wire.
    pub const BYTES: usize = size_of::<Self>() - 2;

    /// The first byte on the wire; [`Reset::BYTES`] are valid.
    #[inline(always)]
    pub const fn wire(&self) -> *const u8 {
        (&raw const self.ethernet).cast()
    }
}

/// The answer to a segment sent over IPv4; `None` if it has none: not TCP, a fragment, IP options, or a reset itself.
#[inline(always)]
pub fn reset_v4(ethernet: &Ethernet, ip: &Ipv4, tcp: &Tcp) -> Option<Reset<Ipv4>> {
    let [start, fragment, protocol, source, destination] = [0, 1, 2, 3, 4].map(|word: usize| u32::from_be(ip[word]));
    if start >> 24 != IPV4_START >> 24 || fragment & FRAGMENT != 0 || protocol >> 16 & 0xff != PROTOCOL_TCP {
        return None;
    }
    let addresses = add(source) + add(destination);
    let tcp = answer(tcp, (start & 0xffff).wrapping_sub(IPV4_BYTES), addresses)?;
    let start = IPV4_START | (IPV4_BYTES + TCP_BYTES);
    let protocol = HOP_LIMIT << 24 | PROTOCOL_TCP << 16;
    let checksum = u32::from(!fold(add(start) + add(DONT_FRAGMENT) + add(protocol) + addresses));
    let ip = [
        start.to_be(),
        DONT_FRAGMENT.to_be(),
        (protocol | checksum).to_be(),
        ip[4],
        ip[3],
    ];
    Some(Reset {
        unused: 0,
        ethernet: back(ethernet),
        ip,
        tcp,
    })
}

/// The answer to a segment sent over IPv6; `None` if it has none: not TCP, extension headers, or a reset itself.
#[inline(always)]
pub fn reset_v6(ethernet: &Ethernet, ip: &Ipv6, tcp: &Tcp) -> Option<Reset<Ipv6>> {
    let (start, length) = (u32::from_be(ip[0]), u32::from_be(ip[1]));
    if start >> 28 != 6 || length >> 8 & 0xff != PROTOCOL_TCP {
        return None;
    }
    let mut addresses = 0;
    let mut word = 2;
    while word < 10 {
        addresses += add(u32::from_be(ip[word]));
        word += 1;
    }
    let tcp = answer(tcp, length >> 16, addresses)?;
    let start = 6_u32 << 28;
    let length = TCP_BYTES << 16 | PROTOCOL_TCP << 8 | HOP_LIMIT;
    let ip = [
        start.to_be(),
        length.to_be(),
        ip[6],
        ip[7],
        ip[8],
        ip[9],
        ip[2],
        ip[3],
        ip[4],
        ip[5],
    ];
    Some(Reset {
        unused: 0,
        ethernet: back(ethernet),
        ip,
        tcp,
    })
}

/// Back to the station it came from.
#[inline(always)]
const fn back(ethernet: &Ethernet) -> Ethernet {
    [
        ethernet[3],
        ethernet[4],
        ethernet[5],
        ethernet[0],
        ethernet[1],
        ethernet[2],
        ethernet[6],
    ]
}

/// RFC 9293, 3.10.7.1: with an acknowledgement the reset continues from there; without, it acknowledges what it got.
/// `length` is the segment's in bytes with its header, `addresses` the sum of the addresses' words.
#[inline(always)]
fn answer(tcp: &Tcp, length: u32, addresses: u32) -> Option<Tcp> {
    let [ports, sequence, acknowledged, control] = [0, 1, 2, 3].map(|word: usize| u32::from_be(tcp[word]));
    let flags = control >> 16 & 0xff;
    if flags & RST != 0 {
        return None;
    }
    let ports = ports.rotate_left(16);
    let (sequence, acknowledged, flags) = if flags & ACK != 0 {
        (acknowledged, 0, RST)
    } else {
        let payload = length.wrapping_sub((control >> 28) * 4);
        let marks = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (0, sequence.wrapping_add(payload).wrapping_add(marks), RST | ACK)
    };
    let control = (TCP_BYTES / 4) << 28 | flags << 16;
    // The checksum also covers the addresses, the protocol and the segment's length.
    let pseudo_header = addresses + PROTOCOL_TCP + TCP_BYTES;
    let checksum = !fold(pseudo_header + add(ports) + add(sequence) + add(acknowledged) + add(control));
    let last = u32::from(checksum) << 16;
    Some([
        ports.to_be(),
        sequence.to_be(),
        acknowledged.to_be(),
        control.to_be(),
        last.to_be(),
    ])
}

/// The two 16-bit words of one 32-bit word, added.
#[inline(always)]
const fn add(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

/// One's complement sum in 16 bits; two folds are enough for any 32-bit total.
#[inline(always)]
const fn fold(total: u32) -> u16 {
    add(add(total)) as u16
}
