//! Decides that sandboxes do what the crate promises, with the real kernel: run as root.
//!
//! Every test has a node of its own, in a network namespace of its own, and leaves nothing behind.

mod adopt;
mod archive;
mod boot;
mod client;
mod commands;
mod containerd;
mod disks;
mod egress;
mod end;
mod exec;
mod faults;
mod flows;
mod health;
mod helper;
mod image_paths;
mod image_users;
mod images;
mod init;
mod isolation;
mod limits;
mod links;
mod logs;
mod node;
mod one_off;
mod outside;
mod own_group;
mod probes;
mod read_only;
mod seccomp;
mod stop_signals;
mod timing;
mod tracking;
mod umask;
mod world;
