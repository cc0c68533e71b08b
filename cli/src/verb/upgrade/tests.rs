//! Which way an upgrade goes that was interrupted, and what becomes of the store.

use super::process::Role;
use super::*;

fn record(phase: Phase) -> Record {
    Record {
        from: Some("/new".into()),
        old_version: "1".into(),
        new_version: "2".into(),
        phase,
        back: None,
        control: Role {
            program: "/usr/bin/miren-control".into(),
            arguments: vec!["/usr/bin/miren-control".into()],
            parent: 1,
            user: Some(0),
            config: "/c.toml".into(),
        },
        proxy: None,
        control_socket: "/run/control.sock".into(),
        proxy_socket: None,
        data_dir: "/data".into(),
        store: "/data/control.db".into(),
        old_schema: Some(3),
        new_schema: 3,
        copied: true,
        served: false,
        restarts_proxy: false,
    }
}

#[test]
fn an_upgrade_that_was_interrupted_goes_on_or_back_and_never_to_something_else() {
    let new = Some(Path::new("/new"));
    for (phase, on) in [
        (Phase::Stage, Way::Anew),
        (Phase::Control, Way::On),
        (Phase::Proxy, Way::On),
        (Phase::Command, Way::On),
    ] {
        let interrupted = record(phase);
        for from in [new, None] {
            assert_eq!(way(&interrupted, from, false), on);
            assert!(matches!(way(&interrupted, from, true), Way::Back(_)));
        }
        let other = way(&interrupted, Some(Path::new("/other")), false);
        assert!(
            matches!(&other, Way::Neither(why) if why.contains("/new") && why.contains(phase.name())),
            "{other:?}"
        );
        let back = Record {
            back: Some("the proxy hung".into()),
            ..interrupted
        };
        assert_eq!(
            way(&back, new, false),
            Way::Back("the proxy hung".into()),
            "it does not turn twice"
        );
    }
}

#[test]
fn the_store_comes_back_unless_what_came_since_was_promised_and_can_be_read() {
    let of = |copied, served, new_schema| Record {
        copied,
        served,
        new_schema,
        ..record(Phase::Proxy)
    };
    for (copied, served, schema, comes_back) in [
        (false, false, 3, false),
        (true, false, 3, true),
        (true, false, 4, true),
        (true, true, 3, false),
        (true, true, 4, true),
        (false, true, 4, false),
    ] {
        assert_eq!(
            of(copied, served, schema).store_comes_back(),
            comes_back,
            "{copied} {served} {schema}"
        );
    }
}

#[test]
fn what_a_control_has_promised_while_nobody_looked_is_kept() {
    for copied in [false, true] {
        let found = Record {
            copied,
            ..record(Phase::Control)
        };
        assert!(!found.found().store_comes_back(), "{copied}");
    }
    let other_schema = Record {
        new_schema: 4,
        ..record(Phase::Control)
    };
    assert!(other_schema.found().store_comes_back(), "the old one cannot read it");
}

#[test]
fn one_upgrade_at_a_time_and_its_record_is_found_beside_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (data, socket) = (folder.path().join("data"), folder.path().join("run/control.sock"));
    std::fs::create_dir(&data).unwrap();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let book = Book::open(&data, &socket).unwrap();
    let refused = Book::open(&data, &socket).err().unwrap();
    assert_eq!(refused.code, "already_running");
    assert!(
        refused.message.contains(&std::process::id().to_string()),
        "{}",
        refused.message
    );
    assert_eq!(record::of(&socket).unwrap(), None);
    for phase in [Phase::Stage, Phase::Control] {
        let record = record(phase);
        book.write(&record).unwrap();
        assert_eq!(record::of(&socket).unwrap().as_ref(), Some(&record));
        assert_eq!(book.read().unwrap(), Some(record));
    }
    book.remove().unwrap();
    assert_eq!(record::of(&socket).unwrap(), None);
    drop(book);
    Book::open(&data, &socket).unwrap();
}

#[tokio::test]
async fn a_proxy_that_ran_and_does_not_come_back_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let role = |arguments: &[&str]| Role {
        program: folder.path().join("miren-proxy"),
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        ..record(Phase::Proxy).control
    };
    let replaced =
        async |arguments: &[&str]| proxy::replace(&record(Phase::Proxy), &role(arguments), false, Duration::ZERO).await;
    replaced(&[]).await.expect("it did not run before");
    let missed = replaced(&["miren-proxy", "--config", "/p.toml"]).await.unwrap_err();
    assert!(missed.message.contains("no proxy runs any more"), "{missed:?}");
    assert!(missed.remedy.contains("--config /p.toml"), "{missed:?}");
}
