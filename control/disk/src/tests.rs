//! What is promised of disks, with real images, devices and mounts.

mod bench;
mod copying;
mod crashes;
mod directories;
mod filesystems;
mod growing;
mod life;
mod sharing;
mod unreadable;
