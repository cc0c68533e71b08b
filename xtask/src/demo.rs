//! The whole system shown at work: an app deployed, loaded, redeployed, killed, drained; and every request counted.

mod node;
mod report;
mod story;

use crate::{build, setup};
use anyhow::{Context, Result, bail};
use clap::Args;
use node::Node;
use report::Report;
use std::path::PathBuf;

#[derive(Args)]
pub struct Options {
    /// Leave everything running at the end and print the URL
    #[arg(long)]
    keep: bool,
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    build_quietly(options.json)?;
    setup::check_kernel()?;
    let folder = Folder::new()?;
    let mut node = Node::start(&folder.0.join("node"))?;
    let told = story::tell(&node, &folder.0)?;
    if options.keep {
        println!("the app answers at http://{}/ with Host: {}", node.http, story::HOST);
        println!("{} stop it with: kill {}", node.describe(), node.pid());
        node.leave();
        std::mem::forget(folder);
    } else {
        node.stop()?;
    }
    let report = Report::of(told)?;
    if options.json {
        println!("{}", report.json()?)
    } else {
        print!("{}", report.table())
    }
    if report.failed_requests > 0 {
        bail!("{} of {} requests failed", report.failed_requests, report.requests);
    }
    Ok(())
}

/// With `--json`, standard output carries the document alone: what the build says goes to standard error.
fn build_quietly(json: bool) -> Result<()> {
    if !json {
        return build::run();
    }
    let own = std::env::current_exe().context("cannot find this program")?;
    let status = std::process::Command::new(own)
        .arg("build")
        .stdout(std::io::stderr())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        bail!("the build failed")
    }
}

/// A folder of our own that goes when the demo does.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("miren-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a stopped demo leaves in the temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
