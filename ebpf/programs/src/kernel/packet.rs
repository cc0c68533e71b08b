//! Decides what happens to a packet on its way to a sandbox that has ended, or takes no new connections.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT},
    helpers::generated::{bpf_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use miren_abi::{Stat, mapped_address};
use miren_programs::packet::{
    Answered, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, Reset, Tcp, reset_v4, reset_v6,
};

use super::{count, owner_of};

/// Bytes of an Ethernet header.
const ETHERNET: usize = size_of::<Ethernet>();

/// Runs for every packet that leaves through the bridge.
#[classifier]
fn packet_hook(ctx: TcContext) -> i32 {
    let Ok(ethertype) = ctx.load::<u16>(12) else {
        return TC_ACT_OK;
    };
    match u16::from_be(ethertype) {
        ETHERTYPE_IPV4 => answer_v4(&ctx, answered(&v4_destination(&ctx))),
        ETHERTYPE_IPV6 => answer_v6(&ctx, answered(&v6_destination(&ctx))),
        _ => TC_ACT_OK,
    }
}

#[inline(always)]
fn answered(address: &Option<[u8; 16]>) -> Answered {
    match address.as_ref().and_then(owner_of) {
        Some((word, owner)) => Answered::of(word, owner.generation),
        None => Answered::Nothing,
    }
}

#[inline(always)]
fn v4_destination(ctx: &TcContext) -> Option<[u8; 16]> {
    ctx.load::<[u8; 4]>(ETHERNET + 16).ok().map(mapped_address)
}

#[inline(always)]
fn v6_destination(ctx: &TcContext) -> Option<[u8; 16]> {
    ctx.load::<[u8; 16]>(ETHERNET + 24).ok()
}

#[inline(always)]
fn answer_v4(ctx: &TcContext, answered: Answered) -> i32 {
    if answered == Answered::Nothing {
        return TC_ACT_OK;
    }
    match v4_reset(ctx, answered) {
        Some(reset) => send_back(ctx, &reset),
        None => unanswered(answered),
    }
}

#[inline(always)]
fn answer_v6(ctx: &TcContext, answered: Answered) -> i32 {
    if answered == Answered::Nothing {
        return TC_ACT_OK;
    }
    match v6_reset(ctx, answered) {
        Some(reset) => send_back(ctx, &reset),
        None => unanswered(answered),
    }
}

#[inline(always)]
fn v4_reset(ctx: &TcContext, answered: Answered) -> Option<Reset<Ipv4>> {
    let (ethernet, ip): (Ethernet, Ipv4) = (ctx.load(0).ok()?, ctx.load(ETHERNET).ok()?);
    let tcp: Tcp = ctx.load(ETHERNET + size_of::<Ipv4>()).ok()?;
    if !answered.is_for(&tcp) {
        return None;
    }
    reset_v4(&ethernet, &ip, &tcp)
}

#[inline(always)]
fn v6_reset(ctx: &TcContext, answered: Answered) -> Option<Reset<Ipv6>> {
    let (ethernet, ip): (Ethernet, Ipv6) = (ctx.load(0).ok()?, ctx.load(ETHERNET).ok()?);
    let tcp: Tcp = ctx.load(ETHERNET + size_of::<Ipv6>()).ok()?;
    if !answered.is_for(&tcp) {
        return None;
    }
    reset_v6(&ethernet, &ip, &tcp)
}

#[inline(always)]
fn unanswered(answered: Answered) -> i32 {
    match answered {
        // Nobody is there to take it, and nobody waits for an answer.
        Answered::Everything => drop_it(),
        _ => TC_ACT_OK,
    }
}

#[inline(always)]
fn drop_it() -> i32 {
    count(Stat::DroppedPackets);
    TC_ACT_SHOT
}

/// Turns the packet into the reset and lets it come in where it would have gone out.
#[inline(always)]
fn send_back<Ip>(ctx: &TcContext, reset: &Reset<Ip>) -> i32 {
    let (skb, bytes) = (ctx.skb.skb, Reset::<Ip>::BYTES as u32);
    // SAFETY: the context is valid while the program runs; the helpers check the packet's bounds.
    unsafe {
        if bpf_skb_change_tail(skb, bytes, 0) != 0 {
            return drop_it();
        }
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        if bpf_skb_store_bytes(skb.cast(), 0, reset.wire().cast(), bytes, flags) != 0 {
            return drop_it();
        }
        count(Stat::ResetPackets);
        bpf_redirect((*skb).ifindex, u64::from(BPF_F_INGRESS)) as i32
    }
}
