//! Decides how a test tries to reach something from inside a sandbox's network, with every right that root has there.

use crate::outside::{Listeners, within};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long silence lasts before it is one. Whatever is refused is told so at once; what is reached was seen to be.
pub const SILENCE: Duration = Duration::from_secs(2);
/// A request for an echo, RFC 792.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const IP_HEADER: usize = 20;

/// What is known after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Reached,
    Refused,
}

impl Outcome {
    pub fn when(reached: bool) -> Self {
        if reached { Self::Reached } else { Self::Refused }
    }
}

pub fn tcp(from: &Path, to: SocketAddr) -> Outcome {
    within(from, || Outcome::when(TcpStream::connect_timeout(&to, SILENCE).is_ok()))
}

/// A datagram counts as soon as it has arrived.
pub fn udp(from: &Path, to: SocketAddrV4, listeners: &Listeners) -> Outcome {
    let socket = within(from, || {
        let socket = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect(to).map(|()| socket));
        socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
    });
    let Ok(socket) = socket else { return Outcome::Refused };
    let _ = socket.send(b"probe");
    let deadline = Instant::now() + SILENCE;
    while Instant::now() < deadline {
        if listeners.udp.recv(&mut [0; 16]).is_ok() {
            return Outcome::Reached;
        }
        match socket.recv(&mut [0; 16]) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Outcome::Refused,
            _ => std::thread::yield_now(),
        }
    }
    Outcome::Refused
}

/// By a raw socket. An answer of any other kind, as that something is prohibited, is a refusal.
pub fn icmp(from: &Path, to: Ipv4Addr) -> Outcome {
    let reached = within(from, || -> io::Result<bool> {
        let socket = raw(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
        let mut request = [ECHO_REQUEST, 0, 0, 0, 0x4d, 0x49, 0, 1];
        let sum = checksum(&request).to_be_bytes();
        request[2..4].copy_from_slice(&sum);
        send_ip(&socket, to, &request)?;
        let deadline = Instant::now() + SILENCE;
        while Instant::now() < deadline {
            let mut answer = [0_u8; 128];
            if let Some(length) = receive(&socket, &mut answer)? {
                match answer[..length].get(IP_HEADER) {
                    Some(&ECHO_REPLY) => return Ok(true),
                    // Its own request comes back on loopback only.
                    Some(&ECHO_REQUEST) => {}
                    _ => return Ok(false),
                }
            }
        }
        Ok(false)
    });
    Outcome::when(reached.unwrap_or(false))
}

/// A frame with a UDP datagram in it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'f> {
    pub source: ([u8; 6], Ipv4Addr),
    pub gateway: [u8; 6],
    pub to: SocketAddrV4,
    pub text: &'f [u8],
}

impl Frame<'_> {
    fn bytes(&self) -> Vec<u8> {
        let total = IP_HEADER + 8 + self.text.len();
        let mut ip = vec![0x45, 0];
        ip.extend(short(total));
        ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        ip.extend(self.source.1.octets());
        ip.extend(self.to.ip().octets());
        let sum = checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        let mut frame = [self.gateway, self.source.0].concat();
        frame.extend([8, 0]);
        frame.extend(ip);
        frame.extend(
            [
                short(5000),
                self.to.port().to_be_bytes(),
                short(8 + self.text.len()),
                [0, 0],
            ]
            .concat(),
        );
        frame.extend(self.text);
        frame
    }

    /// Puts it on the wire as it is, past everything of the sandbox's own network that could look at it.
    pub fn send(&self, from: &Path) {
        let sent = within(from, || -> io::Result<()> {
            let protocol = i32::from(u16::to_be(0x0800));
            let socket = raw(libc::AF_PACKET, libc::SOCK_RAW, protocol)?;
            // SAFETY: the name ends with a NUL.
            let index = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
            // SAFETY: all zeros are a valid address.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
            address.sll_halen = 6;
            address.sll_addr[..6].copy_from_slice(&self.gateway);
            send_to(&socket, &self.bytes(), &address)
        });
        sent.expect("a frame");
    }
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a short packet").to_be_bytes()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

fn raw(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let number = unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn send_ip(socket: &OwnedFd, to: Ipv4Addr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: all zeros are a valid address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_addr.s_addr = u32::from(to).to_be();
    send_to(socket, bytes, &address)
}

fn send_to<A>(socket: &OwnedFd, bytes: &[u8], address: &A) -> io::Result<()> {
    let length = u32::try_from(size_of::<A>()).map_err(io::Error::other)?;
    // SAFETY: both are read within their lengths, and live until the call is over.
    let sent = unsafe {
        let address = std::ptr::from_ref(address).cast();
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            address,
            length,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// None: nothing has come.
fn receive(socket: &OwnedFd, room: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: written within its length.
    let length = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        },
    }
}
