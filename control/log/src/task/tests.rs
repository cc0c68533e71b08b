//! Work that panics is named; whose it was decides what becomes of it. That a process ends is seen in `tests/ends.rs`.

use super::*;

async fn unlucky() {
    panic!("out of luck")
}

#[tokio::test]
async fn f4b_a_panic_that_is_its_callers_is_returned_with_its_name() {
    let done = caught("adding", async { 1 + 1 }).await.unwrap();
    assert_eq!(done, 2);
    let number = 7;
    let panicked = caught("the parser", async move { assert_eq!(number, 8, "the number") })
        .await
        .unwrap_err();
    let text = panicked.to_string();
    assert!(
        text.starts_with("the parser failed by a fault in this program: "),
        "{text}"
    );
    assert!(text.contains("the number"), "{text}");
}

#[tokio::test]
async fn f4b_a_task_that_nobody_ends_the_process_for_panics_as_any_other() {
    let task = spawn("a task", unlucky());
    let error = task.await.unwrap_err();
    assert_eq!(message(&*error.into_panic()), "out of luck");
}

#[tokio::test]
async fn f4b_what_a_thread_works_on_is_known_while_it_does_and_no_longer() {
    fn name() -> Option<String> {
        crate::death::current().map(|name| name.to_string())
    }
    let seen = caught("outer", async {
        let before = name();
        let inner = caught("inner", async {
            tokio::task::yield_now().await;
            name()
        });
        (before, inner.await.unwrap(), name())
    });
    let names = ["outer", "inner", "outer"].map(|name| Some(name.to_owned()));
    assert_eq!(<[_; 3]>::from(seen.await.unwrap()), names);
    assert_eq!(name(), None);
}
