//! Decides what the first process of a sandbox does: it starts the app, passes signals on to it, reaps what is left to it, and ends as it ended.
//!
//! It is built twice: as the library that its tests and the daemon use, and by the daemon's build as a program without libraries
//! (`miren_init`), which every sandbox has in its `/dev`, whatever its image.
#![no_std]
#![cfg_attr(miren_init, no_main)]

pub mod command;
pub mod gate;
pub mod options;
pub mod reaper;
pub mod system;

#[cfg(miren_init)]
mod start;

use core::ffi::{CStr, c_char};
use options::Options;

/// Where it is inside.
pub const PROGRAM: &str = "/dev/miren/init";
/// What it ends with when it was not told what to run.
const MISUSED: i32 = 64;

/// Arguments as the kernel lays them down: pointers to texts, the last one null, in memory that may be written to.
pub type Texts = *mut *const c_char;

/// All it does.
///
/// # Safety
/// `arguments` are `count` pointers to texts and a null, `environment` any number of them and a null; both live for ever.
pub unsafe fn run(count: usize, arguments: Texts, environment: Texts) -> ! {
    // SAFETY: the caller promises that each of the first `count` is a text.
    let words = (1..count).map(|at| unsafe { CStr::from_ptr(*arguments.add(at)) }.to_bytes());
    let Some((options, skipped)) = Options::read(words) else {
        system::exit(MISUSED);
    };
    // SAFETY: the name of the program and what `read` skipped are before it.
    let command = unsafe { command::Command::new(arguments.add(1 + skipped), environment) };
    match options.replaces {
        true => gate::pass(&command, || {}),
        false => reaper::run(&command, options.status),
    }
}

#[cfg(test)]
extern crate std;
