//! Decides what happens to a packet on its way to a sandbox that has ended.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT},
    helpers::generated::{bpf_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use miren_abi::{Stat, mapped_address};
use miren_programs::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, Reset, Tcp, reset_v4, reset_v6};

use super::{count, owner_of};

/// Bytes of an Ethernet header.
const ETHERNET: usize = size_of::<Ethernet>();

/// Runs for every packet that leaves through the bridge.
#[classifier]
fn packet_hook(ctx: TcContext) -> i32 {
    let Ok(ethertype) = ctx.load::<u16>(12) else {
        return TC_ACT_OK;
    };
    let answered = match u16::from_be(ethertype) {
        ETHERTYPE_IPV4 if is_ended(&v4_destination(&ctx)) => answer_v4(&ctx),
        ETHERTYPE_IPV6 if is_ended(&v6_destination(&ctx)) => answer_v6(&ctx),
        _ => return TC_ACT_OK,
    };
    // Nobody is there to take it, and nobody waits for an answer.
    answered.unwrap_or_else(|| {
        count(Stat::DroppedPackets);
        TC_ACT_SHOT
    })
}

#[inline(always)]
fn is_ended(address: &Option<[u8; 16]>) -> bool {
    match address.as_ref().and_then(owner_of) {
        Some((word, generation)) => word.resets_connections(generation),
        None => false,
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
fn answer_v4(ctx: &TcContext) -> Option<i32> {
    let (ethernet, ip): (Ethernet, Ipv4) = (ctx.load(0).ok()?, ctx.load(ETHERNET).ok()?);
    let tcp: Tcp = ctx.load(ETHERNET + size_of::<Ipv4>()).ok()?;
    send_back(ctx, &reset_v4(&ethernet, &ip, &tcp)?)
}

#[inline(always)]
fn answer_v6(ctx: &TcContext) -> Option<i32> {
    let (ethernet, ip): (Ethernet, Ipv6) = (ctx.load(0).ok()?, ctx.load(ETHERNET).ok()?);
    let tcp: Tcp = ctx.load(ETHERNET + size_of::<Ipv6>()).ok()?;
    send_back(ctx, &reset_v6(&ethernet, &ip, &tcp)?)
}

/// Turns the packet into the reset and lets it come in where it would have gone out.
#[inline(always)]
fn send_back<Ip>(ctx: &TcContext, reset: &Reset<Ip>) -> Option<i32> {
    let (skb, bytes) = (ctx.skb.skb, Reset::<Ip>::BYTES as u32);
    // SAFETY: the context is valid while the program runs; the helpers check the packet's bounds.
    unsafe {
        if bpf_skb_change_tail(skb, bytes, 0) != 0 {
            return None;
        }
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        if bpf_skb_store_bytes(skb.cast(), 0, reset.wire().cast(), bytes, flags) != 0 {
            return None;
        }
        count(Stat::ResetPackets);
        Some(bpf_redirect((*skb).ifindex, u64::from(BPF_F_INGRESS)) as i32)
    }
}
