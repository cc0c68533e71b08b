//! Decides that offsets are found, also through anonymous members, and that broken descriptions are refused.

use super::*;

/// Puts a type description together.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    names: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Self {
            types: Vec::new(),
            names: vec![0],
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.names.len() as u32;
        self.names.extend(name.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn integer(&mut self) {
        let name = self.name("int");
        self.words(&[name, 1 << 24, 4, 32]);
    }

    /// Members are name, type and offset in bits.
    fn structure(&mut self, kind: u32, bit_fields: bool, name: &str, members: &[(&str, u32, u32)]) {
        let name = self.name(name);
        self.words(&[name, u32::from(bit_fields) << 31 | kind << 24 | members.len() as u32, 0]);
        for (member, of, bits) in members {
            let member = self.name(member);
            self.words(&[member, *of, *bits]);
        }
    }

    fn build(self) -> Vec<u8> {
        let (types, names) = (self.types.len() as u32, self.names.len() as u32);
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, types, types, names];
        header
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .chain(self.types)
            .chain(self.names)
            .collect()
    }
}

fn example() -> Vec<u8> {
    let mut builder = Builder::new();
    builder.integer();
    builder.structure(UNION, false, "", &[("first", 1, 0), ("second", 1, 0)]);
    builder.structure(STRUCT, true, "", &[("flag", 1, 1 << 24 | 1), ("third", 1, 64)]);
    builder.structure(
        STRUCT,
        false,
        "outer",
        &[("start", 1, 0), ("", 2, 64), ("", 3, 128), ("end", 1, 1024)],
    );
    builder.build()
}

#[test]
fn members_are_found_through_anonymous_ones() {
    let bytes = example();
    let btf = Btf::parse(&bytes).expect("parse");
    let offset = |member| btf.member_offset("outer", member);
    assert_eq!(offset("start"), Ok(0));
    assert_eq!(offset("second"), Ok(8));
    assert_eq!(offset("third"), Ok(24));
    assert_eq!(offset("end"), Ok(128));
}

#[test]
fn what_is_not_there_is_named() {
    let bytes = example();
    let btf = Btf::parse(&bytes).expect("parse");
    assert_eq!(btf.member_offset("inner", "x"), Err(BtfError::NoStruct("inner".into())));
    let no_member = |name: &str| Err(BtfError::NoMember("outer".into(), name.into()));
    assert_eq!(btf.member_offset("outer", "missing"), no_member("missing"));
    assert_eq!(
        btf.member_offset("outer", "flag"),
        no_member("flag"),
        "a bit is not at a whole byte"
    );
}

#[test]
fn every_cut_of_a_description_is_refused_or_read() {
    let bytes = example();
    for length in 0..bytes.len() {
        if let Ok(btf) = Btf::parse(&bytes[..length]) {
            let _ = btf.member_offset("outer", "third");
        }
    }
    assert!(matches!(Btf::parse(b"ELF"), Err(BtfError::NotBtf)));
}

#[test]
fn an_anonymous_member_inside_itself_ends() {
    let mut builder = Builder::new();
    builder.structure(STRUCT, false, "outer", &[("", 1, 0)]);
    let bytes = builder.build();
    let btf = Btf::parse(&bytes).expect("parse");
    assert!(matches!(btf.member_offset("outer", "x"), Err(BtfError::NoMember(..))));
}

#[test]
fn this_kernel_has_what_the_exit_hook_reads() {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
    let btf = Btf::parse(&bytes).expect("parse");
    for (structure, member) in [
        ("task_struct", "signal"),
        ("task_struct", "exit_code"),
        ("signal_struct", "live"),
    ] {
        let offset = btf.member_offset(structure, member).expect(member);
        assert!(offset > 0 && offset < 16_384, "{structure}.{member} at {offset}");
    }
}
