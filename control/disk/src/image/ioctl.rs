//! The kernel's calls for loop devices, for freezing and for sharing blocks (linux/loop.h, linux/fs.h).

use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The same for every image and every machine, and what each file system is made for. Left to itself the kernel takes
/// what direct access to the image needs, which can be more than the file system can do with.
const BLOCK_SIZE: u32 = 4096;

pub(super) const READ_ONLY: u32 = 1;
pub(super) const AUTOCLEAR: u32 = 4;
pub(super) const DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Status {
    pub device: u64,
    pub inode: u64,
    rdevice: u64,
    pub offset: u64,
    pub size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Status {
    pub(super) fn with_flags(flags: u32) -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    status: Status,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Status>() == 232 && size_of::<Config>() == 304);

nix::ioctl_none_bad!(loop_clear, 0x4C01);
nix::ioctl_write_ptr_bad!(loop_set_status, 0x4C04, Status);
nix::ioctl_read_bad!(loop_get_status, 0x4C05, Status);
nix::ioctl_none_bad!(loop_set_capacity, 0x4C07);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, Config);
nix::ioctl_none_bad!(loop_get_free, 0x4C82);
nix::ioctl_write_int_bad!(
    fs_freeze,
    nix::request_code_readwrite!(b'X', 119, size_of::<libc::c_int>())
);
nix::ioctl_write_int_bad!(
    fs_thaw,
    nix::request_code_readwrite!(b'X', 120, size_of::<libc::c_int>())
);
nix::ioctl_write_int_bad!(file_clone, nix::request_code_write!(0x94, 9, size_of::<libc::c_int>()));

/// Number of a loop device that nobody uses yet.
pub(super) fn free_number(control: &File) -> Result<u32, Errno> {
    // SAFETY: the call takes no argument; the descriptor is open for as long as `control` is borrowed.
    unsafe { loop_get_free(control.as_raw_fd()) }.map(i32::unsigned_abs)
}

pub(super) fn configure(device: &File, image: &File, flags: u32) -> Result<(), Errno> {
    let config = Config {
        fd: image.as_raw_fd().unsigned_abs(),
        block_size: BLOCK_SIZE,
        status: Status::with_flags(flags),
        reserved: [0; 8],
    };
    // SAFETY: `Config` has the kernel's layout (its size is asserted above) and outlives the call, which only reads it.
    unsafe { loop_configure(device.as_raw_fd(), &raw const config) }.map(drop)
}

pub(super) fn status(device: &File) -> Result<Status, Errno> {
    let mut status = Status::with_flags(0);
    // SAFETY: `Status` has the kernel's layout (its size is asserted above), is ours to write and valid for any bytes.
    unsafe { loop_get_status(device.as_raw_fd(), &raw mut status) }?;
    Ok(status)
}

pub(super) fn set_status(device: &File, status: &Status) -> Result<(), Errno> {
    // SAFETY: `Status` has the kernel's layout (its size is asserted above) and outlives the call, which only reads it.
    unsafe { loop_set_status(device.as_raw_fd(), &raw const *status) }.map(drop)
}

/// Makes the device as large as its file is now.
pub(super) fn set_capacity(device: &File) -> Result<(), Errno> {
    // SAFETY: the call takes no argument; the descriptor is open for as long as `device` is borrowed.
    unsafe { loop_set_capacity(device.as_raw_fd()) }.map(drop)
}

/// Lets the file go, at once or when the last user of the device is gone.
pub(super) fn clear(device: &File) -> Result<(), Errno> {
    // SAFETY: the call takes no argument; the descriptor is open for as long as `device` is borrowed.
    unsafe { loop_clear(device.as_raw_fd()) }.map(drop)
}

pub(super) fn freeze(folder: &File) -> Result<(), Errno> {
    // SAFETY: the kernel ignores the argument; the descriptor is open for as long as `folder` is borrowed.
    unsafe { fs_freeze(folder.as_raw_fd(), 0) }.map(drop)
}

pub(super) fn thaw(folder: &File) -> Result<(), Errno> {
    // SAFETY: the kernel ignores the argument; the descriptor is open for as long as `folder` is borrowed.
    unsafe { fs_thaw(folder.as_raw_fd(), 0) }.map(drop)
}

/// Lets `to` share all blocks of `from`.
pub(super) fn clone(from: &File, to: &File) -> Result<(), Errno> {
    // SAFETY: the argument is a descriptor by value; both are open for as long as the files are borrowed.
    unsafe { file_clone(to.as_raw_fd(), from.as_raw_fd()) }.map(drop)
}
