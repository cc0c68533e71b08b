//! Decides what a hostile Dockerfile is built on, and how it is seen that the host is as it was.

use std::fs;
use std::path::{Path, PathBuf};

use miren_blackbox::{AppFolder, ContainerImage, Node, NodeOptions, Output, Registry};
use tempfile::TempDir;

pub const TOOLS: [&str; 13] = [
    "/bin/bash",
    "/usr/bin/cat",
    "/usr/bin/chmod",
    "/usr/bin/cp",
    "/usr/bin/ln",
    "/usr/bin/ls",
    "/usr/bin/mkdir",
    "/usr/bin/mknod",
    "/usr/bin/mount",
    "/usr/bin/sleep",
    "/usr/bin/timeout",
    "/usr/bin/touch",
    "/usr/bin/unshare",
];
/// How every attack ends, so that nothing of it is ever run as an app.
pub const END: &str = "RUN echo the end of the attack; exit 9\n";

/// A node, the registry that its operator named, and a folder of the host's that is nobody's business.
pub struct Host {
    pub node: Node,
    pub registry: Registry,
    pub base: String,
    pub folder: TempDir,
    secret: String,
}

impl Host {
    pub fn new() -> Self {
        let registry = Registry::start();
        let base = registry.push("tools:1", &ContainerImage::of_programs(&TOOLS));
        // Not where memory of a builder's own is mounted: it would hide what is there.
        let folder = tempfile::Builder::new()
            .prefix("miren-host-")
            .tempdir_in("/var/lib")
            .expect("a folder");
        let secret = format!("secret-{:x}", std::process::id());
        fs::write(folder.path().join("secret"), &secret).expect("a file");
        Self {
            node: NodeOptions::unique().registry(&registry).start(),
            registry,
            base,
            folder,
            secret,
        }
    }

    pub fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Reads and writes the folder of the host's below `at`, and what else a host has there.
    pub fn attempt(&self, at: &str) -> String {
        let folder = format!("{at}{}", self.folder.path().display());
        let others = ["/etc/shadow", "/root/.bashrc", "/var/lib/dpkg/status"].map(|path| format!("{at}{path}"));
        format!(
            "cat {folder}/secret; touch {folder}/owned && echo wrote {folder}; echo owned > {folder}/secret && echo wrote the secret; \
             for file in {} {at}{}/control.toml; do [ -e $file ] && echo sees $file; done; \
             touch {at}/usr/bin/owned {at}/etc/owned; echo tried",
            others.join(" "),
            self.node.folder().display()
        )
    }

    /// Deploys a Dockerfile that does not get as far as an image, and looks whether the host is as it was.
    pub fn attack(&self, name: &str, dockerfile: &str) -> Output {
        let app = AppFolder::rust("hostile").app_toml("name = \"hostile\"\n[build]\nbuilder = \"buildah\"\n");
        fs::write(app.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
        let output = self.node.cli.call(&["deploy", "-d", &app.path().to_string_lossy()]);
        assert_ne!(output.code, 0, "{name}: {output}");
        let told = format!("{}{}", output.stdout, output.stderr);
        assert!(!told.contains(&self.secret), "{name}: {output}");
        let lines = || told.lines().map(str::trim);
        let found = lines().find(|line| ["sees ", "wrote ", "did "].iter().any(|begin| line.starts_with(begin)));
        assert_eq!(found, None, "{name}: {output}");
        let left: Vec<_> = fs::read_dir(self.folder.path())
            .expect("a folder")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, ["secret"], "{name}");
        assert_eq!(
            fs::read_to_string(self.secret_file()).expect("a file"),
            self.secret,
            "{name}"
        );
        let end = lines().find(|line| *line == "tried" || line.starts_with("Error: "));
        println!("{name}: {:.150}", end.unwrap_or("refused before it began"));
        for folder in ["/usr/bin", "/etc"] {
            assert!(!Path::new(folder).join("owned").exists(), "{name} wrote to {folder}");
        }
        output
    }

    /// Stages before the one that attacks: one with links that lead to the root of whoever follows them.
    pub fn with_links(&self) -> String {
        let base = &self.base;
        let shell = "SHELL [\"/bin/bash\", \"-c\"]";
        let links = "RUN mkdir -p /d; ln -s / /b; ln -s / /d/b";
        format!("FROM {base} AS links\n{shell}\n{links}\nFROM {base}\n{shell}\n")
    }
}
