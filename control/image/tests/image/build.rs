//! Decides what the images of these tests consist of.

use miren_image::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use tar::{Builder, EntryType, Header};

/// One entry of a layer, as any tool could write it.
#[derive(Clone, Debug)]
pub struct Item {
    pub path: String,
    pub kind: EntryType,
    pub link: String,
    pub content: Vec<u8>,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    /// Records of an extended header.
    pub pax: Vec<(String, Vec<u8>)>,
}

impl Item {
    fn new(path: &str, kind: EntryType, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            link: String::new(),
            content: Vec::new(),
            mode,
            owner: (0, 0),
            mtime: 1_000_000,
            pax: Vec::new(),
        }
    }

    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.pax.push((format!("SCHILY.xattr.{name}"), value.to_vec()));
        self
    }
}

pub fn file(path: &str, content: &str) -> Item {
    Item {
        content: content.into(),
        ..Item::new(path, EntryType::Regular, 0o644)
    }
}

pub fn folder(path: &str) -> Item {
    Item::new(path, EntryType::Directory, 0o755)
}

pub fn link(path: &str, to: &str) -> Item {
    Item {
        link: to.into(),
        ..Item::new(path, EntryType::Symlink, 0o777)
    }
}

pub fn hard_link(path: &str, to: &str) -> Item {
    Item {
        link: to.into(),
        ..Item::new(path, EntryType::Link, 0o644)
    }
}

pub fn special(path: &str, kind: EntryType) -> Item {
    Item::new(path, kind, 0o640)
}

pub fn tar(items: &[Item]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for item in items {
        let mut pax = item.pax.clone();
        let mut header = Header::new_ustar();
        let raw = header.as_ustar_mut().unwrap();
        for (key, text, field) in [
            ("path", &item.path, &mut raw.name),
            ("linkpath", &item.link, &mut raw.linkname),
        ] {
            if text.len() > field.len() {
                pax.push((key.into(), text.clone().into_bytes()));
            } else {
                field[..text.len()].copy_from_slice(text.as_bytes());
            }
        }
        if !pax.is_empty() {
            let records = pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            builder.append_pax_extensions(records).unwrap();
        }
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_uid(item.owner.0);
        header.set_gid(item.owner.1);
        header.set_mtime(item.mtime);
        header.set_size(item.content.len() as u64);
        header.set_cksum();
        builder.append(&header, item.content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An image with everything a registry has of it.
#[derive(Clone, Debug)]
pub struct Built {
    pub manifest: Vec<u8>,
    pub digest: Digest,
    pub config: Vec<u8>,
    /// Blobs and diff ids, lowest first.
    pub blobs: Vec<Vec<u8>>,
    pub diff_ids: Vec<Digest>,
}

impl Built {
    /// Of layers that are plain tar streams, sent as gzip.
    pub fn new(layers: &[Vec<u8>]) -> Self {
        Self::with(layers, &json!({ "Cmd": ["/bin/app"], "Env": ["A=b"] }), gzip)
    }

    pub fn with(layers: &[Vec<u8>], config: &Value, compress: fn(&[u8]) -> Vec<u8>) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| compress(layer)).collect();
        let config = json!({
            "os": "linux", "architecture": architecture(), "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Self::of(config.to_string().into_bytes(), blobs, diff_ids)
    }

    pub fn of(config: Vec<u8>, blobs: Vec<Vec<u8>>, diff_ids: Vec<Digest>) -> Self {
        let layers: Vec<Value> = blobs.iter().map(|blob| descriptor(blob)).collect();
        let manifest = json!({ "schemaVersion": 2, "config": descriptor(&config), "layers": layers });
        let manifest = manifest.to_string().into_bytes();
        Self {
            digest: Digest::of(&manifest),
            manifest,
            config,
            blobs,
            diff_ids,
        }
    }

    /// All blobs by digest, the configuration too.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let all = self.blobs.iter().chain([&self.config]);
        all.map(|blob| (Digest::of(blob).to_string(), blob.clone())).collect()
    }

    pub fn blob_digest(&self, at: usize) -> String {
        Digest::of(&self.blobs[at]).to_string()
    }
}

pub fn descriptor(blob: &[u8]) -> Value {
    json!({ "mediaType": "application/octet-stream", "digest": Digest::of(blob), "size": blob.len() })
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A small image whose layers no other has.
pub fn simple(name: &str) -> Built {
    Built::new(&[
        tar(&[folder("etc"), file("etc/name", name), file("base", "base")]),
        tar(&[file("bin", &format!("{name} {}", "x".repeat(50_000)))]),
    ])
}
