//! Decides what the images of these tests consist of, and gets them into a node's store.

use crate::node::TestNode;
use miren_image::Image;
use miren_sandbox::{Root, StartOrder};
use serde_json::{Value, json};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Builder, EntryType, Header};

/// An image with the test's app as `/bin/app`, and what that needs.
pub struct Archive {
    layers: Vec<Vec<u8>>,
    pub config: Value,
}

impl Archive {
    pub fn new() -> Self {
        let mut layer = Layer::default();
        let app = PathBuf::from(env!("CARGO_BIN_EXE_miren-sandbox-testapp"));
        layer.file("bin/app", &fs::read(&app).expect("the app"), 0o755);
        for library in libraries(&app) {
            let inside = library.strip_prefix("/").expect("a whole path");
            let content = fs::read(&library).expect("a library");
            layer.file(inside.to_str().expect("a name"), &content, 0o755);
        }
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/srv:/bin/sh\n";
        layer.file("etc/passwd", passwd.as_bytes(), 0o644);
        layer.file("etc/group", b"root:x:0:\napp:x:1001:\nlog:x:4:app\n", 0o644);
        layer.file("srv/data", b"of the image", 0o644);
        layer.file("tmp/.keep", b"", 0o644);
        Self {
            layers: vec![layer.end()],
            config: json!({ "Entrypoint": ["/bin/app"], "Cmd": ["listen", "0.0.0.0"] }),
        }
    }

    /// One more layer with one more file.
    pub fn add(&mut self, path: &str, content: &str) {
        let mut layer = Layer::default();
        layer.file(path, content.as_bytes(), 0o644);
        self.layers.push(layer.end());
    }

    /// One more layer with links, each with where it leads.
    pub fn link(&mut self, links: &[(&str, &str)]) {
        let mut layer = Layer::default();
        links.iter().for_each(|(path, to)| layer.link(path, to));
        self.layers.push(layer.end());
    }

    /// In the form that `docker save` writes.
    fn saved(&self) -> Vec<u8> {
        let mut out = Layer::default();
        let names: Vec<String> = (0..self.layers.len()).map(|at| format!("{at}/layer.tar")).collect();
        for (name, layer) in names.iter().zip(&self.layers) {
            out.file(name, layer, 0o644);
        }
        let diff_ids: Vec<String> = self
            .layers
            .iter()
            .map(|layer| miren_image::Digest::of(layer).to_string())
            .collect();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "os": "linux", "architecture": architecture, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        out.file("config.json", config.to_string().as_bytes(), 0o644);
        let manifest = json!([{ "Config": "config.json", "RepoTags": ["test:1"], "Layers": names }]);
        out.file("manifest.json", manifest.to_string().as_bytes(), 0o644);
        out.end()
    }

    /// The image, and an order for it as it is.
    pub async fn order(&self, node: &TestNode) -> (Image, StartOrder) {
        let images = node.config.images.as_ref().expect("a store");
        let imported = images.import(Cursor::new(self.saved()), None, &|_| {}).await;
        let image = imported.expect("an image");
        let mut order = node.order("");
        order.service.command = String::new();
        order.root = Root::Image(image.digest);
        order.app_files = None;
        (image, order)
    }
}

#[derive(Default)]
struct Layer(Option<Builder<Vec<u8>>>);

impl Layer {
    fn file(&mut self, path: &str, content: &[u8], mode: u32) {
        let mut header = Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        let builder = self.0.get_or_insert_with(|| Builder::new(Vec::new()));
        builder.append_data(&mut header, path, content).expect("an entry");
    }

    fn link(&mut self, path: &str, to: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        let builder = self.0.get_or_insert_with(|| Builder::new(Vec::new()));
        builder.append_link(&mut header, path, to).expect("an entry");
    }

    fn end(self) -> Vec<u8> {
        self.0.expect("an entry").into_inner().expect("a layer")
    }
}

/// The shared libraries of a program, its loader last.
pub fn libraries(program: &Path) -> Vec<PathBuf> {
    let told = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8(told.stdout).expect("text");
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(PathBuf::from).collect()
}
