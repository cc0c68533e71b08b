//! Decides whether the fast path keeps K1 to K8 in the kernel it runs on. Needs root, BPF, BTF and cgroup2.
//!
//! Every test has a pin folder and, where it sends packets, network namespaces of its own, so they run side by side.

mod f10_identity;
mod f11_nested;
mod f18_namespaces;
mod f18_upgrade;
mod k1_exit;
mod k1_status;
mod k2_alone;
mod k3_connect;
mod k4_reset;
mod k5_reuse;
mod k6_upgrade;
mod k7_off;
mod k8_reader;
mod lab;
mod network;
mod roles;
