//! Decides what the kernel does by itself when a sandbox exits, is connected to, or is sent a packet.
//!
//! Built for the kernel by `cargo xtask ebpf`. On the host there is nothing to run; the parts that decide are in the
//! library of this package and are tested there.
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    feature(core_intrinsics),
    allow(internal_features)
)]

#[cfg(target_arch = "bpf")]
mod kernel;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these programs run in the kernel: `cargo xtask ebpf` builds them, miren-control loads them");
}
