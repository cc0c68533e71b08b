//! Decides which kernel object the loader carries: the one `cargo xtask ebpf` built, or none.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(miren_programs)");
    println!("cargo::rerun-if-env-changed=MIREN_EBPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let object = env::var_os("MIREN_EBPF_OBJECT").map_or_else(built_object, PathBuf::from);
    if object.is_file() {
        println!("cargo::rerun-if-changed={}", object.display());
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        fs::copy(&object, out.join("miren-programs")).unwrap_or_else(|error| panic!("copying {object:?}: {error}"));
        println!("cargo::rustc-cfg=miren_programs");
    } else {
        watch_for(&object);
    }
}

fn built_object() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../target"),
        PathBuf::from,
    );
    target.join("ebpf/bpfel-unknown-none/bpf/miren-programs")
}

/// A path that does not exist would make cargo build this crate again every time: watch the folder it will appear in.
fn watch_for(object: &Path) {
    if let Some(folder) = object.parent()
        && fs::create_dir_all(folder).is_ok()
    {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
}
