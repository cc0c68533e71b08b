//! nginx as it comes from Debian, before a folder of files.

use miren_blackbox::{AppFolder, Node};
use std::fs;

use super::is_replaced_under_load;

/// More than the sockets on the way take, so that it lasts at the rate that the settings allow.
const LINES: usize = 32 * 1024;

fn write_site(app: &AppFolder, release: &str) {
    let site = app.path().join("public");
    fs::create_dir_all(&site).expect("a folder");
    fs::write(site.join("info"), release).expect("a file");
    fs::write(site.join("slow"), format!("{release}\n").repeat(LINES)).expect("a file");
}

#[test]
fn a_site_of_nginx_is_replaced_under_load() {
    let app = AppFolder::sample("nginx");
    let node = Node::start();
    is_replaced_under_load(&node, &app, write_site);
    node.stop();
}
