//! Decides which new connections are refused before they begin.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::generated::{bpf_get_netns_cookie, bpf_set_retval},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use miren_abi::{Stat, mapped_address};
use miren_programs::connect::{Caller, is_refused};

use super::{SANDBOX_BY_NETNS, count, owner_of};

/// Cookie of the network namespace that has the bridge; the loader fills it in.
#[unsafe(no_mangle)]
static NODE_NETNS: u64 = 0;

const ECONNREFUSED: i32 = 111;
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// connect(2) over IPv4, TCP and UDP.
#[cgroup_sock_addr(connect4)]
fn connect_hook4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs, and its fields are read as whole words.
    let address = unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) };
    decide(&ctx, &mapped_address(address.to_ne_bytes()))
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
    decide(&ctx, &unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(address) })
}

#[inline(always)]
fn decide(ctx: &SockAddrContext, address: &[u8; 16]) -> i32 {
    match owner_of(address) {
        // Who asks is looked up only where it matters: not on the way to a sandbox that serves.
        Some((word, owner)) if word.refuses_connections(owner.generation) && is_refused(&owner, &caller(ctx)) => {
            // Without this the caller would get EPERM, which clients do not take for a server that is gone.
            // SAFETY: a number.
            unsafe { bpf_set_retval(-ECONNREFUSED) };
            count(Stat::RefusedConnects);
            REFUSE
        }
        _ => ALLOW,
    }
}

/// Whose socket it is, by the network namespace it was made in.
#[inline(always)]
fn caller(ctx: &SockAddrContext) -> Caller {
    // SAFETY: the context is valid while the program runs.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    // SAFETY: the constant is read as it is in memory, not as the compiler knows it.
    if cookie == unsafe { read_volatile(&raw const NODE_NETNS) } {
        return Caller::Node;
    }
    // SAFETY: a copy is taken at once; an entry that is replaced meanwhile is whole in either version.
    match unsafe { SANDBOX_BY_NETNS.get(&cookie) } {
        Some(sandbox) => Caller::Sandbox(*sandbox),
        None => Caller::Stranger,
    }
}
