//! Decides whether a layer made to reach outside its folder, or to exhaust the machine, does neither.

use super::build::{Item, file, folder, hard_link, link, special, tar};
use super::layers::unpacked;
use super::store::{kind, names, store, store_with};
use miren_image::Limits;
use tar::EntryType;

/// What a hostile layer would like to change: a folder beside the store, reachable by `..` and by its full path.
fn bait(folder: &std::path::Path) -> std::path::PathBuf {
    let bait = folder.join("bait");
    std::fs::create_dir(&bait).unwrap();
    std::fs::write(bait.join("file"), "untouched").unwrap();
    bait
}

fn long(path: &str) -> Item {
    let mut item = file("x", "");
    item.pax.push(("path".into(), path.as_bytes().to_vec()));
    item
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_out_are_refused() {
    let cases: Vec<Vec<Item>> = vec![
        vec![file("../bait/file", "x")],
        vec![file("a/../../../bait/file", "x")],
        vec![folder("..")],
        vec![link("../bait/link", "x")],
        vec![special("../fifo", EntryType::Fifo)],
        vec![hard_link("stolen", "../../../../bait/file")],
        vec![hard_link("stolen", "/etc/passwd")],
        vec![folder("d"), hard_link("twice", "d")],
        vec![file("gone", ""), hard_link("../twice", "gone")],
        vec![file(".wh...", "")],
        vec![file("d/.wh..", "")],
        vec![file(".wh.", "")],
        vec![file(".wh.hidden", ""), hard_link("device", "hidden")],
        vec![long(&"n".repeat(256))],
        vec![long(&"d/".repeat(300))],
        vec![long(&"d/".repeat(3000))],
        vec![long("zero\0byte")],
        vec![link("empty", "")],
        vec![link("loop", "loop"), file("loop/file", "x")],
        vec![link("to-nothing", "nowhere"), file("to-nothing/file", "x")],
        vec![file("f", ""), file("f/below", "x")],
        vec![link("etc", "/etc"), hard_link("stolen", "etc/passwd")],
        vec![file("./", "x"), link(".", "/")],
    ];
    for items in cases {
        let store = store();
        let bait = bait(store.folder.path());
        let shown = format!(
            "{:?}",
            items.iter().map(|item| (&item.path, &item.link)).collect::<Vec<_>>()
        );
        let error = unpacked(&store, &items).await.expect_err(&shown);
        assert_eq!(kind(&error), "corrupt", "{shown}: {error}");
        assert!(error.to_string().contains("entry "), "{error}");
        store.settled().await;
        assert_eq!(
            std::fs::read_to_string(bait.join("file")).unwrap(),
            "untouched",
            "{shown}"
        );
        assert_eq!(names(&bait), ["file"], "{shown}");
        assert!(
            store.names("layers").is_empty() && store.names("images").is_empty(),
            "{shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_leads_no_further_than_the_root_of_the_layer() {
    let store = store();
    let bait = bait(store.folder.path());
    let full = bait.to_str().unwrap();
    let items = [
        link("absolute", full),
        link("relative", "../../../../bait"),
        link("up", ".."),
        folder("bait"),
        // Made first, so that there is something inside where the links lead.
        folder(full.trim_start_matches('/')),
        file("absolute/file", "inside"),
        file("relative/other", "inside"),
        file("up/up/up/third", "inside"),
        file("absolute/.wh.gone", ""),
        // Replaces a link, not what it leads to.
        file("relative", "a file now"),
        file("/etc/absolute", "inside"),
    ];
    let root = unpacked(&store, &items).await.unwrap();
    assert_eq!(std::fs::read_to_string(bait.join("file")).unwrap(), "untouched");
    assert_eq!(names(&bait), ["file"]);
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(read(&format!("{}/file", full.trim_start_matches('/'))), "inside");
    assert_eq!(read("bait/other"), "inside");
    assert_eq!(
        (read("third"), read("relative"), read("etc/absolute")),
        ("inside".into(), "a file now".into(), "inside".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn links_cannot_be_stacked_into_a_depth_that_nobody_can_remove() {
    let store = store();
    let step = "d/".repeat(100);
    let mut items = vec![folder(&step)];
    let mut path = step.clone();
    for at in 0..5 {
        items.push(link(&format!("l{at}"), &path));
        items.push(folder(&format!("l{at}/{step}")));
        path = format!("l{at}/{step}");
    }
    let error = unpacked(&store, &items).await.unwrap_err();
    assert_eq!(kind(&error), "corrupt", "{error}");
    assert!(error.to_string().contains("too deep"), "{error}");
    store.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_more_than_it_weighs_is_cut() {
    let sparse = special("sparse", EntryType::GNUSparse);
    let mut pax_sparse = file("f", "");
    pax_sparse
        .pax
        .push(("GNU.sparse.realsize".into(), b"99999999999999".to_vec()));
    let mut header = file("f", "");
    header.pax.push(("comment".into(), vec![b'x'; 2 << 20]));
    let mut name = special("././@LongLink", EntryType::GNULongName);
    name.content = vec![b'x'; 1 << 20];
    let many: Vec<Item> = (0..200).map(|at| file(&format!("f{at}"), "")).collect();
    let implied = file(&"d/".repeat(40), "");
    for (items, expected) in [
        (vec![sparse], "unsupported"),
        (vec![pax_sparse], "unsupported"),
        (vec![header], "too large"),
        (vec![name], "too large"),
        (many, "too large"),
        (vec![file(&format!("{}f", implied.path), "")], "too large"),
    ] {
        let store = store_with(Limits {
            files: 30,
            ..Limits::default()
        });
        let error = unpacked(&store, &items).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{error}");
        store.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_early_or_lies_about_sizes_is_refused() {
    let registry = super::registry::Registry::start().await;
    let whole = tar(&[file("f", &"x".repeat(5000))]);
    let mut lying = whole.clone();
    // A size of 8 GiB, with the sum of the header made right.
    lying[124..135].copy_from_slice(b"77777777777");
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(&lying[..512]);
    header.set_cksum();
    lying[..512].copy_from_slice(header.as_bytes());
    for (at, layer) in [
        whole[..300].to_vec(),
        whole[..3000].to_vec(),
        lying,
        b"no tar at all".repeat(100),
    ]
    .iter()
    .enumerate()
    {
        let store = store();
        let built = super::build::Built::new(std::slice::from_ref(layer));
        let error = store.pull(&registry.add(&format!("v{at}"), &built)).await.unwrap_err();
        assert_eq!(kind(&error), "corrupt", "{at}: {error}");
        store.settled().await;
    }
}
