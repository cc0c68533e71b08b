//! Decides when two folders are the same: equal paths, executable bits and contents, in whatever order they were sent.

use super::unpack::{Contents, Node};
use sha2::{Digest, Sha256};

/// The digest in the form of the API, and the folder name that goes with it.
pub fn of(contents: &Contents) -> (String, String) {
    let mut hash = Sha256::new();
    for (path, node) in contents.iter() {
        // Lengths before texts: no two folders write the same bytes.
        field(&mut hash, path.as_bytes());
        match node {
            Node::Folder => field(&mut hash, b"folder"),
            Node::Link(to) => {
                field(&mut hash, b"link");
                field(&mut hash, to.as_encoded_bytes());
            }
            Node::File {
                executable, content, ..
            } => {
                field(&mut hash, if *executable { b"program" } else { b"file" });
                field(&mut hash, content);
            }
        }
    }
    let hex = hex(&hash.finalize());
    (format!("sha256:{hex}"), hex)
}

fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
