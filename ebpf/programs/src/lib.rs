//! Decides what the hooks answer, apart from the kernel calls that make it happen, so that it runs on the host too.
#![no_std]

pub mod connect;
pub mod packet;
