//! Decides whether random stacks of layers show in an overlay what applying them one after the other gives.

use super::build::{Item, file, folder, link};
use super::overlay::{Tree, image, merged};
use super::store::store;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const STACKS: u64 = 40;

/// What a layer says about a name.
#[derive(Clone)]
enum Change {
    File(String),
    Link(String),
    Gone,
    Folder(Changes),
}

#[derive(Clone)]
struct Changes {
    mode: u32,
    /// Whether lower layers count.
    opaque: Opaque,
    names: BTreeMap<&'static str, Change>,
}

/// How it is said that lower layers do not count.
#[derive(Clone, Copy, PartialEq)]
enum Opaque {
    No,
    Inside,
    Beside,
}

/// What is at a name in the end.
enum Node {
    Leaf(String),
    Folder(u32, BTreeMap<&'static str, Node>),
}

/// Changes to what is there. Only that is deleted: overlayfs lists other deletions, and no tool makes them.
fn changes(random: &mut StdRng, there: &BTreeMap<&'static str, Node>, depth: u32) -> Changes {
    let mut names = BTreeMap::new();
    let nothing = BTreeMap::new();
    for name in NAMES {
        let change = match random.random_range(0..10) {
            0 | 1 => Change::File(random.random_range(0..1000).to_string()),
            2 => Change::Link(NAMES[random.random_range(0..NAMES.len())].into()),
            3 if there.contains_key(name) => Change::Gone,
            4..=7 if depth < 3 => {
                let below = match there.get(name) {
                    Some(Node::Folder(_, below)) => below,
                    _ => &nothing,
                };
                Change::Folder(changes(random, below, depth + 1))
            }
            _ => continue,
        };
        names.insert(name, change);
    }
    let opaque = match random.random_range(0..8) {
        0 => Opaque::Inside,
        1 if depth > 0 => Opaque::Beside,
        _ => Opaque::No,
    };
    let mode = if random.random() { 0o755 } else { 0o711 };
    Changes { mode, opaque, names }
}

fn apply(node: &mut BTreeMap<&'static str, Node>, changes: &Changes) {
    if changes.opaque != Opaque::No {
        node.clear();
    }
    for (name, change) in &changes.names {
        match change {
            Change::File(content) => drop(node.insert(name, Node::Leaf(format!("file 644 {content}")))),
            Change::Link(to) => drop(node.insert(name, Node::Leaf(format!("link {to}")))),
            Change::Gone => drop(node.remove(name)),
            Change::Folder(inner) => {
                let mut below = match node.remove(name) {
                    Some(Node::Folder(_, below)) => below,
                    _ => BTreeMap::new(),
                };
                apply(&mut below, inner);
                node.insert(name, Node::Folder(inner.mode, below));
            }
        }
    }
}

fn items(prefix: &str, changes: &Changes, all: &mut Vec<Item>) {
    if changes.opaque == Opaque::Inside {
        all.push(file(&format!("{prefix}.wh..wh..opq"), ""));
    }
    for (name, change) in &changes.names {
        let path = format!("{prefix}{name}");
        match change {
            Change::File(content) => all.push(file(&path, content)),
            Change::Link(to) => all.push(link(&path, to)),
            Change::Gone => all.push(file(&format!("{prefix}.wh.{name}"), "")),
            Change::Folder(inner) => {
                if inner.opaque == Opaque::Beside {
                    all.push(file(&format!("{prefix}.wh.{name}"), ""));
                }
                let mut item = folder(&path);
                item.mode = inner.mode;
                all.push(item);
                items(&format!("{path}/"), inner, all);
            }
        }
    }
}

fn flatten(prefix: &str, node: &BTreeMap<&'static str, Node>, tree: &mut Tree) {
    for (name, node) in node {
        let path = format!("{prefix}{name}");
        match node {
            Node::Leaf(shown) => drop(tree.insert(path, shown.clone())),
            Node::Folder(mode, below) => {
                flatten(&format!("{path}/"), below, tree);
                tree.insert(path, format!("folder {mode:o}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_of_random_layers_shows_what_applying_them_gives() {
    for seed in 0..STACKS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = BTreeMap::new();
        let mut stack: Vec<Changes> = Vec::new();
        for at in 0..random.random_range(2..7) {
            // Now and then the lowest layer once more.
            let next = match stack.first() {
                Some(lowest) if at > 1 && random.random_range(0..5) == 0 => lowest.clone(),
                _ => changes(&mut random, &model, 0),
            };
            apply(&mut model, &next);
            stack.push(next);
        }
        let mut layers: Vec<Vec<Item>> = Vec::new();
        for changes in &stack {
            let mut all = Vec::new();
            items("", changes, &mut all);
            layers.push(all);
        }
        for layer in &mut layers {
            // Sorted first, so that the same layer stays the same one.
            let mut order = StdRng::seed_from_u64(seed);
            layer.shuffle(&mut order);
        }
        let mut expected = Tree::new();
        flatten("", &model, &mut expected);
        let store = store();
        let image = image(&store, &layers).await;
        assert_eq!(merged(&store, &image), expected, "seed {seed}: {layers:#?}");
    }
}
