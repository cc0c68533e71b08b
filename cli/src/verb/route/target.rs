//! Which route a command is about: a host's own, or the one that takes what no other route matches.

use crate::failure::Failure;
use crate::paths;
use clap::Args;
use miren_api::host::parse_route_host;

/// What the default route has in place of a host.
const DEFAULT_HOST: &str = "(default)";

#[derive(Debug, Args)]
pub struct Target {
    /// `shop.example.com`, or `*.example.com`
    #[arg(value_name = "HOST", required_unless_present = "default", conflicts_with = "default")]
    host: Option<String>,
    /// The default route, instead of a host's
    #[arg(long)]
    default: bool,
}

impl Target {
    /// The host as it was typed: what is sent in place of letters beyond ASCII is for the server to say.
    pub fn host(&self) -> &str {
        self.host.as_deref().map_or(DEFAULT_HOST, str::trim)
    }

    pub fn is_default(&self) -> bool {
        self.host() == DEFAULT_HOST
    }

    /// Where the server has it.
    pub fn path(&self) -> Result<String, Failure> {
        if !self.is_default() {
            check(self.host())?;
        }
        Ok(paths::of(paths::ROUTES, self.host()))
    }
}

/// Where the server has the route of a host.
pub fn path_of(host: &str) -> Result<String, Failure> {
    check(host)?;
    Ok(paths::of(paths::ROUTES, host.trim()))
}

fn check(host: &str) -> Result<(), Failure> {
    match parse_route_host(host) {
        Ok(_) => Ok(()),
        Err(why) => Err(Failure::usage(format!("host {host:?} {why}"))
            .remedy("a name like shop.example.com or *.example.com, no port")),
    }
}
