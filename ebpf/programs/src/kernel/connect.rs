//! Decides which new connections are refused before they begin.

use core::ptr::read_volatile;

use aya_ebpf::{helpers::generated::bpf_set_retval, macros::cgroup_sock_addr, programs::SockAddrContext};
use miren_abi::{Stat, mapped_address};

use super::{count, owner_of};

const ECONNREFUSED: i32 = 111;
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// connect(2) over IPv4, TCP and UDP.
#[cgroup_sock_addr(connect4)]
fn connect_hook4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs, and its fields are read as whole words.
    let address = unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) };
    decide(&mapped_address(address.to_ne_bytes()))
}

/// connect(2) over IPv6, also to a mapped IPv4 address.
#[cgroup_sock_addr(connect6)]
fn connect_hook6(ctx: SockAddrContext) -> i32 {
    // SAFETY: as above.
    let words = unsafe { &raw const (*ctx.sock_addr).user_ip6 }.cast::<u32>();
    let mut address = [0_u32; 4];
    let mut index = 0;
    while index < 4 {
        // SAFETY: inside the four words of the address.
        address[index] = unsafe { read_volatile(words.add(index)) };
        index += 1;
    }
    // SAFETY: same size, no padding.
    decide(&unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(address) })
}

#[inline(always)]
fn decide(address: &[u8; 16]) -> i32 {
    match owner_of(address) {
        Some((word, generation)) if word.refuses_connections(generation) => {
            // Without this the caller would get EPERM, which clients do not take for a server that is gone.
            // SAFETY: a number.
            unsafe { bpf_set_retval(-ECONNREFUSED) };
            count(Stat::RefusedConnects);
            REFUSE
        }
        _ => ALLOW,
    }
}
