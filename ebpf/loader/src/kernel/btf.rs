//! Decides where this kernel keeps a member of one of its structures, from the type description it carries (BTF).

use thiserror::Error;

#[cfg(test)]
mod tests;

const MAGIC: u16 = 0xeb9f;
/// `BTF_KIND_STRUCT` and `BTF_KIND_UNION`.
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Depth of anonymous structures inside each other; the kernel's own limit for types is 32.
const MAX_DEPTH: u32 = 32;

/// Why an offset is not known.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum BtfError {
    #[error("it is not little-endian BTF")]
    NotBtf,
    #[error("it ends, or goes wrong, at byte {0}")]
    Broken(usize),
    #[error("it has no struct {0}")]
    NoStruct(String),
    #[error("struct {0} has no member {1} at a whole byte")]
    NoMember(String, String),
}

/// The types of a kernel.
pub(super) struct Btf<'a> {
    /// The bytes from the first type on.
    types: &'a [u8],
    names: &'a [u8],
    /// Where each type starts in `types`; type 0 is void.
    starts: Vec<usize>,
}

/// The fixed part of a type.
struct Type {
    at: usize,
    name: usize,
    kind: u32,
    members: usize,
    /// Whether member offsets share their word with a bit-field size.
    bit_fields: bool,
}

impl<'a> Btf<'a> {
    /// Finds the types; looks at nothing else of them yet.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if bytes.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(BtfError::NotBtf);
        }
        let [header, type_at, type_bytes, name_at, name_bytes] = [4, 8, 12, 16, 20].map(|at| word(bytes, at));
        let header = header? as usize;
        let section = |at: u32, length: u32| {
            let start = header.checked_add(at as usize).ok_or(BtfError::NotBtf)?;
            let end = start.checked_add(length as usize).ok_or(BtfError::NotBtf)?;
            bytes.get(start..end).ok_or(BtfError::Broken(start))
        };
        let (types, names) = (section(type_at?, type_bytes?)?, section(name_at?, name_bytes?)?);
        let mut btf = Self {
            types,
            names,
            starts: vec![0],
        };
        let mut at = 0;
        while at < types.len() {
            btf.starts.push(at);
            let found = btf.type_at(at)?;
            at += 12 + tail_bytes(found.kind, found.members).ok_or(BtfError::Broken(at))?;
        }
        Ok(btf)
    }

    /// Offset in bytes of a member, also one inside anonymous structures.
    pub(super) fn member_offset(&self, structure: &str, member: &str) -> Result<u32, BtfError> {
        for start in self.starts.iter().skip(1) {
            let found = self.type_at(*start)?;
            if found.kind == STRUCT && self.name(found.name) == structure.as_bytes() && found.members > 0 {
                let bits = self.find(&found, member.as_bytes(), MAX_DEPTH)?;
                return bits
                    .filter(|bits| bits.is_multiple_of(8))
                    .map(|bits| bits / 8)
                    .ok_or_else(|| BtfError::NoMember(structure.to_owned(), member.to_owned()));
            }
        }
        Err(BtfError::NoStruct(structure.to_owned()))
    }

    fn find(&self, structure: &Type, wanted: &[u8], depth: u32) -> Result<Option<u32>, BtfError> {
        for index in 0..structure.members {
            let at = structure.at + 12 + 12 * index;
            let name = self.name(word(self.types, at)? as usize);
            let offset = word(self.types, at + 8)?;
            let offset = if structure.bit_fields {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            if name == wanted {
                return Ok(Some(offset));
            }
            if !name.is_empty() || depth == 0 {
                continue;
            }
            let inner = word(self.types, at + 4)? as usize;
            let inner = self.type_at(*self.starts.get(inner).ok_or(BtfError::Broken(at))?)?;
            if matches!(inner.kind, STRUCT | UNION)
                && let Some(inside) = self.find(&inner, wanted, depth - 1)?
            {
                return Ok(Some(offset + inside));
            }
        }
        Ok(None)
    }

    fn type_at(&self, at: usize) -> Result<Type, BtfError> {
        let (name, shape) = (word(self.types, at)? as usize, word(self.types, at + 4)?);
        Ok(Type {
            at,
            name,
            kind: shape >> 24 & 0x1f,
            members: (shape & 0xffff) as usize,
            bit_fields: shape >> 31 == 1,
        })
    }

    fn name(&self, at: usize) -> &[u8] {
        let rest = self.names.get(at..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow the fixed 12 of a type, by its kind (Documentation/bpf/btf.rst); `None` for an unknown kind.
fn tail_bytes(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // struct, union, data section, 64-bit enumeration
        STRUCT | UNION | 15 | 19 => 12 * members,
        // enumeration, function prototype
        6 | 13 => 8 * members,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    found.map(|word| u32::from_le_bytes(*word)).ok_or(BtfError::Broken(at))
}
