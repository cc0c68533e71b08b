//! A WebSocket that sends every message back (RFC 6455), with the hash its handshake needs.

use std::io::{self, BufRead, Write};

use crate::request::Request;

/// Appended to the client's key before hashing (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Longest message that is echoed.
const MESSAGE_MAX: u64 = 16 << 20;

/// Answers the handshake and echoes until the client closes.
pub fn serve(request: &Request, reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<()> {
    let Some(key) = request.header("sec-websocket-key") else {
        return writer.write_all(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n");
    };
    let accept = base64(&sha1(format!("{key}{GUID}").as_bytes()));
    write!(
        writer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    loop {
        let (first, message) = frame(reader)?;
        let answer = if first & 15 == PING { first & 0xf0 | PONG } else { first };
        let mut out = vec![answer];
        match message.len() {
            length @ 0..=125 => out.push(length as u8),
            length @ 126..=0xffff => {
                out.push(126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                out.push(127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&message);
        writer.write_all(&out)?;
        if first & 15 == CLOSE {
            return Ok(());
        }
    }
}

/// One frame: its first byte (final bit and opcode) and its unmasked payload.
fn frame(reader: &mut impl BufRead) -> io::Result<(u8, Vec<u8>)> {
    let [first, second] = bytes(reader)?;
    let length = match second & 127 {
        126 => u64::from(u16::from_be_bytes(bytes(reader)?)),
        127 => u64::from_be_bytes(bytes(reader)?),
        short => u64::from(short),
    };
    if length > MESSAGE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        ));
    }
    let mask: [u8; 4] = if second & 128 != 0 { bytes(reader)? } else { [0; 4] };
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    reader.read_exact(&mut payload)?;
    payload
        .iter_mut()
        .zip(mask.iter().cycle())
        .for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, payload))
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    reader.read_exact(&mut out)?;
    Ok(out)
}

/// SHA-1 (RFC 3174), of which the handshake needs nothing but agreement.
fn sha1(text: &[u8]) -> [u8; 20] {
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let mixed = words
            .iter()
            .enumerate()
            .fold(state, |state, (i, word)| round(state, i, *word));
        state
            .iter_mut()
            .zip(mixed)
            .for_each(|(sum, part)| *sum = sum.wrapping_add(part));
    }
    let mut out = [0; 20];
    out.chunks_exact_mut(4)
        .zip(state)
        .for_each(|(four, word)| four.copy_from_slice(&word.to_be_bytes()));
    out
}

fn round([a, b, c, d, e]: [u32; 5], i: usize, word: u32) -> [u32; 5] {
    let (mix, constant) = match i / 20 {
        0 => ((b & c) | (!b & d), 0x5a82_7999),
        1 => (b ^ c ^ d, 0x6ed9_eba1),
        2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
        _ => (b ^ c ^ d, 0xca62_c1d6_u32),
    };
    let next = a
        .rotate_left(5)
        .wrapping_add(mix)
        .wrapping_add(e)
        .wrapping_add(constant)
        .wrapping_add(word);
    [next, a, b.rotate_left(30), c, d]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let group = three.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_the_one_of_the_standard() {
        let key = format!("dGhlIHNhbXBsZSBub25jZQ=={GUID}");
        assert_eq!(base64(&sha1(key.as_bytes())), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn hashes_longer_than_one_block() {
        let hex: String = sha1(&[b'a'; 120]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f34c1488385346a55709ba056ddd08280dd4c6d6");
    }
}
