//! Servers of Python, installed by pip into a virtual environment in the app's folder.

use miren_blackbox::{AppFolder, Node};

use super::{fetched, is_replaced_under_load};

#[test]
fn flask_behind_gunicorn_is_replaced_under_load() {
    let app = AppFolder::sample("flask");
    fetched::venv(&app);
    let node = Node::start();
    is_replaced_under_load(&node, &app, AppFolder::set_release);
    node.stop();
}

#[test]
fn starlette_behind_uvicorn_is_replaced_under_load() {
    let app = AppFolder::sample("starlette");
    fetched::venv(&app);
    let node = Node::start();
    is_replaced_under_load(&node, &app, AppFolder::set_release);
    node.stop();
}
