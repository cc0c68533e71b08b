//! The end of the store's thread.

use super::*;

#[tokio::test]
async fn f6_a_store_whose_thread_has_died_is_closed_and_not_a_write_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("control.db")).await.unwrap();
    let died = store.run("reading", |_| -> Result<(), StoreError> {
        panic!("the thread dies in a test")
    });
    assert_eq!(died.await, Err(StoreError::Closed { doing: "reading" }));
    let listed = store.list(Kind::App, Selection::All).await;
    let expected = StoreError::Closed {
        doing: "listing records",
    };
    assert!(expected.is_final());
    assert_eq!(listed, Err(expected));
}
