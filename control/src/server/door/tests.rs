//! A socket that is removed, with its folder or without, is there again; one that somebody else has made is left alone.

use super::*;
use std::fs;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

/// A door that counts who came in.
struct Stage {
    folder: tempfile::TempDir,
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let path = run.join("control.sock");
        let mut door = Door::open(&path, CancellationToken::new()).unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = door.accept().await;
                stream.writable().await.unwrap();
                stream.try_write(b"x").unwrap();
            }
        });
        Self { folder, path, serving }
    }

    async fn is_answered(&self) -> bool {
        let Ok(stream) = UnixStream::connect(&self.path).await else {
            return false;
        };
        tokio::time::timeout(PATIENCE, stream.readable())
            .await
            .unwrap()
            .unwrap();
        stream.try_read(&mut [0]).is_ok_and(|count| count == 1)
    }

    async fn becomes_answered(&self, what: &str) {
        let begun = Instant::now();
        while !self.is_answered().await {
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: nobody answers at {}",
                self.path.display()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_removed_is_there_again_each_time() {
    let stage = Stage::new();
    for round in 0..3 {
        assert!(stage.is_answered().await);
        fs::remove_file(&stage.path).unwrap();
        stage.becomes_answered(&format!("removed for the {round}th time")).await;
        fs::rename(&stage.path, stage.folder.path().join("elsewhere")).unwrap();
        stage.becomes_answered("moved away").await;
        let mode = fs::metadata(&stage.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_folder_may_be_removed_with_it() {
    let stage = Stage::new();
    let run = stage.path.parent().unwrap();
    for _ in 0..3 {
        fs::remove_dir_all(run).unwrap();
        stage.becomes_answered("removed with its folder").await;
    }
    fs::rename(run, stage.folder.path().join("other")).unwrap();
    stage.becomes_answered("its folder was moved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_cannot_be_made_is_tried_again() {
    let stage = Stage::new();
    let run = stage.path.parent().unwrap();
    // A folder of the socket's name is in the way.
    let away = stage.folder.path().join("away");
    let in_the_way = stage.folder.path().join("in-the-way");
    fs::create_dir(&in_the_way).unwrap();
    fs::create_dir(in_the_way.join("control.sock")).unwrap();
    fs::rename(run, &away).unwrap();
    // Made anew at once, perhaps; then what was made goes as well.
    let _ = fs::remove_dir_all(run);
    if fs::rename(&in_the_way, run).is_ok() {
        assert!(!stage.is_answered().await);
        fs::remove_dir(run.join("control.sock")).unwrap();
    }
    stage.becomes_answered("the way is free again").await;
}

#[tokio::test]
async fn the_socket_of_another_daemon_is_left_alone_and_a_dead_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("control.sock"), folder.path().join("other.sock"));
    let mut door = Door::open(&path, CancellationToken::new()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&other).unwrap();
    fs::rename(&other, &path).unwrap();
    let theirs = fs::metadata(&path).unwrap().ino();
    door.look();
    assert_eq!(fs::metadata(&path).unwrap().ino(), theirs);
    drop(listener);
    door.look();
    assert_eq!(fs::metadata(&path).unwrap().ino(), door.bound.1, "its daemon has died");
}

#[tokio::test]
async fn what_was_connected_before_is_taken_and_at_the_end_nothing_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ending) = (folder.path().join("control.sock"), CancellationToken::new());
    let mut door = Door::open(&path, ending.clone()).unwrap();
    let early = UnixStream::connect(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    door.look();
    assert!(path.exists());
    drop(door.accept().await);
    early.readable().await.unwrap();
    assert_eq!(early.try_read(&mut [0]).unwrap(), 0, "taken, and ended");
    ending.cancel();
    fs::remove_file(&path).unwrap();
    door.look();
    assert!(!path.exists());
}
