//! The sample app as a container image, in an archive or behind a registry that the test runs itself.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use crate::binaries::sample_app;

/// One image for this machine.
pub struct ContainerImage {
    layers: Vec<Vec<u8>>,
    config: Value,
    elsewhere: Option<String>,
}

impl ContainerImage {
    /// The Rust sample app, which says that it is `release`, and serves on 8080.
    #[track_caller]
    pub fn rust(release: &str) -> Self {
        let app = sample_app();
        let system = libraries(&app);
        let mut own = Layer::default();
        own.file(Path::new("/srv/app"), &fs::read(&app).expect("the sample app"), 0o755);
        own.file(Path::new("/srv/VERSION"), release.as_bytes(), 0o644);
        Self {
            layers: vec![system.end(), own.end()],
            config: json!({
                "Entrypoint": ["/srv/app"], "WorkingDir": "/srv", "User": "1000:1000",
                "Env": ["PATH=/srv"], "ExposedPorts": { "8080/tcp": {} },
            }),
            elsewhere: None,
        }
    }

    /// Programs of this machine and what the sample app needs, to build on.
    #[track_caller]
    pub fn of_programs(programs: &[&str]) -> Self {
        let layer = |program: &&str| {
            let mut layer = libraries(Path::new(program));
            layer.file(Path::new(program), &fs::read(program).expect("a program"), 0o755);
            layer.end()
        };
        let mut layers = vec![libraries(&sample_app()).end()];
        layers.extend(programs.iter().map(layer));
        Self {
            layers,
            config: json!({ "Env": ["PATH=/usr/bin:/bin"] }),
            elsewhere: None,
        }
    }

    /// With so many bytes more that nobody reads.
    pub fn heavier(mut self, bytes: usize) -> Self {
        let mut layer = Layer::default();
        layer.file(Path::new("/ballast"), &vec![0; bytes], 0o644);
        self.layers.push(layer.end());
        self
    }

    /// What every build on it does first, as `ONBUILD` says it.
    pub fn on_build(mut self, steps: &[&str]) -> Self {
        self.config["OnBuild"] = json!(steps);
        self
    }

    /// The last layer is said to be elsewhere.
    pub fn with_layer_at(mut self, url: &str) -> Self {
        self.elsewhere = Some(url.to_owned());
        self
    }

    fn config(&self) -> Vec<u8> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        // Without a history, buildah builds nothing on it; without times, it finds nothing again that it built.
        let created = "2026-01-01T00:00:00Z";
        let step = json!({ "created": created, "created_by": "a test" });
        let history = vec![step; diff_ids.len()];
        let config = json!({
            "os": "linux", "architecture": architecture, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": history,
            "created": created,
        });
        config.to_string().into_bytes()
    }

    /// Writes it as `docker save` does.
    pub fn save(&self, file: &Path) {
        let mut out = Layer::default();
        let names: Vec<String> = (0..self.layers.len()).map(|at| format!("{at}/layer.tar")).collect();
        for (name, layer) in names.iter().zip(&self.layers) {
            out.file(Path::new(name), layer, 0o644);
        }
        out.file(Path::new("config.json"), &self.config(), 0o644);
        let manifest = json!([{ "Config": "config.json", "RepoTags": ["saved:1"], "Layers": names }]);
        out.file(Path::new("manifest.json"), manifest.to_string().as_bytes(), 0o644);
        fs::write(file, out.end()).expect("writing the archive");
    }

    /// Its manifest, and everything that names.
    fn contents(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let config = self.config();
        let layer = |layer: &Vec<u8>| described("application/vnd.oci.image.layer.v1.tar", layer);
        let mut layers: Vec<Value> = self.layers.iter().map(layer).collect();
        let mut blobs = self.layers.clone();
        if let (Some(url), Some(last)) = (&self.elsewhere, layers.last_mut()) {
            last["urls"] = json!([url]);
            last["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
            blobs.pop();
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        blobs.push(config);
        (manifest.to_string().into_bytes(), blobs)
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn described(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(content), "size": content.len() })
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[derive(Default)]
struct Layer(Option<Builder<Vec<u8>>>);

impl Layer {
    fn file(&mut self, path: &Path, content: &[u8], mode: u32) {
        let mut header = Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        let inside = path.strip_prefix("/").unwrap_or(path);
        let builder = self.0.get_or_insert_with(|| Builder::new(Vec::new()));
        builder.append_data(&mut header, inside, content).expect("an entry");
    }

    fn end(self) -> Vec<u8> {
        self.0.expect("an entry").into_inner().expect("a layer")
    }
}

/// A layer with the shared libraries of a program, its loader included.
fn libraries(program: &Path) -> Layer {
    let told = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8(told.stdout).expect("text");
    let mut layer = Layer::default();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        layer.file(Path::new(library), &fs::read(library).expect("a library"), 0o755);
    }
    layer
}

type Contents = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A registry on loopback for as long as the test runs.
pub struct Registry {
    address: SocketAddr,
    contents: Contents,
}

impl Registry {
    #[track_caller]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let registry = Self {
            address: listener.local_addr().expect("an address"),
            contents: Arc::default(),
        };
        let contents = Arc::clone(&registry.contents);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let contents = Arc::clone(&contents);
                thread::spawn(move || answer(stream, &contents));
            }
        });
        registry
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has an image under a name, in place of what had it; says the whole name.
    pub fn push(&self, name: &str, image: &ContainerImage) -> String {
        let (repository, tag) = name.split_once(':').expect("a name and a tag");
        let (manifest, blobs) = image.contents();
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        for reference in [tag, &digest(&manifest)] {
            contents.insert(format!("/v2/{repository}/manifests/{reference}"), manifest.clone());
        }
        for blob in blobs {
            contents.insert(format!("/v2/{repository}/blobs/{}", digest(&blob)), blob);
        }
        format!("{}/{name}", self.address)
    }
}

/// Requests of one connection.
fn answer(mut stream: TcpStream, contents: &Contents) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    loop {
        let first = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let path = first.split(' ').nth(1)?;
        let found = contents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned();
        let status = match (path, &found) {
            ("/v2/", _) | (_, Some(_)) => "200 OK",
            _ => "404 Not Found",
        };
        let body = found.unwrap_or_default();
        let kind = if path.contains("/manifests/") {
            MANIFEST
        } else {
            "application/octet-stream"
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        if !first.starts_with("HEAD") {
            stream.write_all(&body).ok()?;
        }
    }
}
