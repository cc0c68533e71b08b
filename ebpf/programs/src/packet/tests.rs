//! Decides that a reset is one the sender's kernel accepts: addresses, numbers, flags and checksums.

extern crate std;

use std::vec::Vec;

use miren_abi::State;

use super::*;

const ETHERNET_V4: [u8; 14] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x08, 0x00];
const ETHERNET_V6: [u8; 14] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x86, 0xdd];
const ACKED: u8 = 0x10;
const SYNED: u8 = 0x02;
const FINED: u8 = 0x01;
const RESET: u8 = 0x04;

fn ipv4(payload: u16) -> [u8; 20] {
    let length = (40 + payload).to_be_bytes();
    [
        0x45, 0, length[0], length[1], 0, 7, 0x40, 0, 64, 6, 0xab, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2,
    ]
}

fn ipv6(payload: u16) -> [u8; 40] {
    let mut ip = [0; 40];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(20 + payload).to_be_bytes());
    ip[6] = 6;
    ip[7] = 64;
    ip[8] = 0xfd;
    ip[23] = 1;
    ip[24] = 0xfd;
    ip[39] = 2;
    ip
}

fn tcp(flags: u8) -> [u8; 20] {
    let mut tcp = [0; 20];
    tcp[0..2].copy_from_slice(&40000_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&8080_u16.to_be_bytes());
    tcp[4..8].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
    tcp[8..12].copy_from_slice(&77_u32.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    tcp
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|word| u32::from_ne_bytes(bytes[4 * word..4 * word + 4].try_into().expect("four bytes")))
}

fn ethernet(bytes: &[u8; 14]) -> Ethernet {
    std::array::from_fn(|word| u16::from_ne_bytes([bytes[2 * word], bytes[2 * word + 1]]))
}

fn wire<Ip>(reset: Reset<Ip>) -> Vec<u8> {
    // SAFETY: what `wire` promises.
    unsafe { std::slice::from_raw_parts(reset.wire(), Reset::<Ip>::BYTES) }.to_vec()
}

fn v4(ip: &[u8; 20], tcp: &[u8; 20]) -> Option<Vec<u8>> {
    reset_v4(&ethernet(&ETHERNET_V4), &words(ip), &words(tcp)).map(wire)
}

fn v6(ip: &[u8; 40], tcp: &[u8; 20]) -> Option<Vec<u8>> {
    reset_v6(&ethernet(&ETHERNET_V6), &words(ip), &words(tcp)).map(wire)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The straightforward checksum of RFC 1071, over any number of pieces.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut total = 0_u64;
    for piece in pieces {
        for pair in piece.chunks(2) {
            total += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

#[test]
fn k4_an_acknowledged_segment_is_reset_from_its_acknowledgement() {
    let reset = v4(&ipv4(100), &tcp(ACKED)).expect("an answer");
    assert_eq!(reset[..14], [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 0x08, 0x00]);
    assert_eq!(
        reset[26..34],
        [10, 0, 0, 2, 10, 0, 0, 1],
        "from the sandbox to the sender"
    );
    assert_eq!(reset[34..38], [0x1f, 0x90, 0x9c, 0x40], "ports swapped");
    assert_eq!((number(&reset, 38), number(&reset, 42)), (77, 0));
    assert_eq!(reset[47], RESET);
}

#[test]
fn k4_a_syn_is_answered_with_what_it_would_expect() {
    let reset = v4(&ipv4(0), &tcp(SYNED)).expect("an answer");
    assert_eq!(
        (number(&reset, 38), number(&reset, 42)),
        (0, 0xffff_fff1),
        "a SYN counts as one"
    );
    assert_eq!(reset[47], RESET | ACKED);
    let with_payload = v4(&ipv4(32), &tcp(SYNED | FINED)).expect("an answer");
    assert_eq!(
        number(&with_payload, 42),
        0xffff_fff0_u32.wrapping_add(34),
        "numbers wrap around"
    );
}

#[test]
fn k4_checksums_are_right_over_ipv4() {
    for flags in [ACKED, SYNED, ACKED | FINED] {
        let reset = v4(&ipv4(11), &tcp(flags)).expect("an answer");
        assert_eq!(checksum(&[&reset[14..34]]), 0, "IP header");
        assert_eq!(
            checksum(&[&reset[26..34], &[0, 6, 0, 20], &reset[34..]]),
            0,
            "TCP segment"
        );
    }
}

#[test]
fn k4_resets_work_over_ipv6() {
    let reset = v6(&ipv6(5), &tcp(ACKED)).expect("an answer");
    assert_eq!((reset[22], reset[37]), (0xfd, 2), "source");
    assert_eq!((reset[38], reset[53]), (0xfd, 1), "destination");
    assert_eq!(number(&reset, 58), 77);
    assert_eq!(reset[67], RESET);
    assert_eq!(checksum(&[&reset[22..54], &[0, 0, 0, 20, 0, 0, 0, 6], &reset[54..]]), 0);
    let syn = v6(&ipv6(0), &tcp(SYNED)).expect("an answer");
    assert_eq!((number(&syn, 62), syn[67]), (0xffff_fff1, RESET | ACKED));
}

#[test]
fn a_reset_is_never_answered_with_a_reset() {
    assert_eq!(v4(&ipv4(0), &tcp(RESET)), None);
    assert_eq!(v6(&ipv6(0), &tcp(RESET | ACKED)), None);
}

#[test]
fn what_is_not_a_plain_tcp_segment_has_no_answer() {
    let mut udp = ipv4(0);
    udp[9] = 17;
    let mut fragment = ipv4(0);
    fragment[7] = 1;
    let mut first_fragment = ipv4(0);
    first_fragment[6] = 0x20;
    let mut options = ipv4(0);
    options[0] = 0x46;
    for ip in [udp, fragment, first_fragment, options] {
        assert_eq!(v4(&ip, &tcp(ACKED)), None, "{ip:?}");
    }
    let mut extension = ipv6(0);
    extension[6] = 0;
    assert_eq!(v6(&extension, &tcp(ACKED)), None);
}

#[test]
fn sums_fold_into_sixteen_bits() {
    assert_eq!(fold(0), 0);
    assert_eq!(fold(0xffff), 0xffff);
    assert_eq!(fold(0x1_0000), 1);
    assert_eq!(fold(0x1_ffff), 1);
    assert_eq!(fold(0xffff_ffff), 0xffff);
}

#[test]
fn f18_a_sandbox_that_takes_no_new_connections_is_asked_for_none() {
    let answered = |state| Answered::of(Word::new(7, state), 7);
    for state in State::ALL {
        let expected = match state {
            State::Free | State::Pending | State::Running => Answered::Nothing,
            State::Draining | State::Stopping => Answered::NewConnections,
            State::Stopped | State::Dead => Answered::Everything,
        };
        assert_eq!(answered(state), expected, "{state}");
        assert_eq!(
            Answered::of(Word::new(8, state), 7),
            Answered::Nothing,
            "{state} of another generation"
        );
    }
}

#[test]
fn f18_only_the_first_segment_of_a_connection_opens_it() {
    let cases = [
        (SYNED, true),
        (SYNED | 0xc0, true),
        (SYNED | ACKED, false),
        (ACKED, false),
        (ACKED | FINED, false),
        (RESET, false),
    ];
    for (flags, opens) in cases {
        let segment = words(&tcp(flags));
        assert_eq!(Answered::NewConnections.is_for(&segment), opens, "{flags:#x}");
        assert!(Answered::Everything.is_for(&segment) && !Answered::Nothing.is_for(&segment));
    }
}
