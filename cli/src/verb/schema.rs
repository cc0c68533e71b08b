//! `miren schema`: what a settings file may say, as a JSON Schema for editors; no server is asked.

use crate::console::Console;
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use miren_api::app_file;

/// What the daemons of this release say of their files: written by `cargo xtask docs`, which finds stale ones.
const CONTROL: &str = include_str!("../../../docs/schema/control.json");
const PROXY: &str = include_str!("../../../docs/schema/proxy.json");

#[derive(Debug, Args)]
pub struct SchemaOptions {
    /// Of which file
    #[arg(value_enum)]
    file: SettingsFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SettingsFile {
    /// .miren/app.toml
    App,
    /// control.toml
    Control,
    /// proxy.toml
    Proxy,
}

pub fn run(options: &SchemaOptions, console: &mut Console) -> Result<(), Failure> {
    match options.file {
        SettingsFile::App => console.document(&app_file::schema()),
        SettingsFile::Control => console.verbatim(CONTROL.trim_end()),
        SettingsFile::Proxy => console.verbatim(PROXY.trim_end()),
    }
}
