//! Decides whether users are looked up in the image's own files, wherever its links lead.

use super::build::{Item, file, folder, link};
use super::overlay::image;
use super::store::{kind, store};
use miren_image::{ImageError, User};

const PASSWD: &str = "root:x:0:0::/:\napp:x:1000:1001::/:\n";
const GROUP: &str = "log:x:4:app\n";

async fn resolve(layers: &[Vec<Item>], user: &str) -> Result<User, ImageError> {
    let store = store();
    let image = image(&store, layers).await;
    store.images.resolve_user(&image, user)
}

fn app() -> User {
    User {
        uid: 1000,
        gid: 1001,
        groups: vec![4],
        home: "/".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topmost_files_count_and_deleted_ones_do_not() {
    let base = vec![folder("etc"), file("etc/passwd", PASSWD), file("etc/group", GROUP)];
    assert_eq!(resolve(std::slice::from_ref(&base), "app").await.unwrap(), app());
    let other = vec![file("etc/passwd", "app:x:5:6::/:\n")];
    assert_eq!(resolve(&[base.clone(), other], "app").await.unwrap().uid, 5);
    for hiding in [
        vec![file("etc/.wh.passwd", "")],
        vec![file(".wh.etc", "")],
        vec![folder("etc"), file("etc/.wh..wh..opq", "")],
        vec![file("etc", "a file")],
        vec![file(".wh..wh..opq", "")],
    ] {
        let error = resolve(&[base.clone(), hiding.clone()], "app").await.unwrap_err();
        assert_eq!(kind(&error), "not found", "{hiding:?}: {error}");
        assert_eq!(resolve(&[base.clone(), hiding], "12:13").await.unwrap().gid, 13);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed_inside_the_image_only() {
    let data = vec![folder("data"), file("data/passwd", PASSWD), file("data/group", GROUP)];
    for to in ["/data", "data", "../../../data", "/data/../data/.", "/../data"] {
        assert_eq!(
            resolve(&[data.clone(), vec![link("etc", to)]], "app").await.unwrap(),
            app(),
            "{to}"
        );
    }
    let each = vec![link("etc/passwd", "/data/passwd"), link("etc/group", "../data/group")];
    assert_eq!(resolve(&[data, each], "app").await.unwrap(), app());
    // The machine's own file would have an answer.
    assert!(std::fs::read_to_string("/etc/passwd").unwrap().contains("daemon:"));
    for items in [
        vec![link("etc/passwd", "../../../../../../../../../etc/passwd")],
        vec![link("etc/passwd", "/proc/self/root/etc/passwd")],
    ] {
        let error = resolve(std::slice::from_ref(&items), "daemon").await.unwrap_err();
        assert!(matches!(kind(&error), "not found" | "corrupt"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_accounts_is_bounded() {
    let error = resolve(&[vec![file("etc/passwd", &"x".repeat(2 << 20))]], "app")
        .await
        .unwrap_err();
    assert_eq!(kind(&error), "too large", "{error}");
    let fifo = super::build::special("etc/passwd", tar::EntryType::Fifo);
    let error = resolve(&[vec![fifo]], "app").await.unwrap_err();
    assert_eq!(kind(&error), "not found", "{error}");
}
