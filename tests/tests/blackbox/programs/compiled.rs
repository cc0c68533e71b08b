//! Servers of Go, as one program, and of Java, from its source.

use miren_blackbox::{AppFolder, Node};

use super::{fetched, is_replaced_under_load};

#[test]
fn a_server_of_go_is_replaced_under_load() {
    let app = AppFolder::sample("go");
    fetched::go_program(&app);
    let node = Node::start();
    is_replaced_under_load(&node, &app, AppFolder::set_release);
    node.stop();
}

#[test]
fn a_server_of_java_is_replaced_under_load() {
    let app = AppFolder::sample("java");
    let node = Node::start();
    is_replaced_under_load(&node, &app, AppFolder::set_release);
    node.stop();
}
