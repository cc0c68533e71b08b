//! Which way an upgrade goes that was interrupted, and what becomes of the store.

use super::process::Role;
use super::*;

pub fn record(phase: Phase) -> Record {
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
        restoring: false,
        served: false,
        restarts_proxy: false,
        start_control: None,
        is_supervised: false,
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
    assert_eq!(record::of(&socket, None).unwrap(), None);
    for phase in [Phase::Stage, Phase::Control] {
        let record = Record {
            control_socket: socket.clone(),
            ..record(phase)
        };
        book.write(&record).unwrap();
        assert_eq!(record::of(&socket, None).unwrap().as_ref(), Some(&record));
        assert_eq!(book.read().unwrap().as_ref(), Some(&record));
        // A reboot takes what is beside the socket.
        std::fs::remove_file(socket.with_file_name("upgrade.json")).unwrap();
        assert_eq!(record::of(&socket, Some(&data)).unwrap(), Some(record));
        let other = folder.path().join("other/control.sock");
        assert_eq!(record::of(&other, Some(&data)).unwrap(), None, "that of another node");
    }
    book.remove().unwrap();
    assert_eq!(record::of(&socket, None).unwrap(), None);
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

#[test]
fn a_store_that_is_half_back_comes_back_whatever_was_promised() {
    let half = Record {
        restoring: true,
        ..record(Phase::Proxy)
    };
    assert!(half.clone().found().store_comes_back());
    let done = Record {
        restoring: false,
        copied: false,
        ..half
    };
    assert!(!done.found().store_comes_back(), "what is written since is kept");
}

#[test]
fn what_has_given_up_its_copy_goes_back_only_to_what_can_read_the_store() {
    let of = |new_schema| Record {
        copied: false,
        served: true,
        new_schema,
        ..record(Phase::Command)
    };
    assert!(matches!(way(&of(4), None, true), Way::Neither(why) if why.contains("cannot read")));
    assert!(matches!(way(&of(3), None, true), Way::Back(_)));
    assert_eq!(way(&of(4), None, false), Way::On);
}

/// A record of a control that is this command line and serves nowhere.
fn started_by(folder: &Path, line: &str, command: &str) -> Record {
    let mut record = record(Phase::Proxy);
    record.control.arguments = line.split(' ').map(str::to_owned).collect();
    record.control_socket = folder.join("control.sock");
    record.start_control = Some(command.to_owned());
    record
}

#[tokio::test]
async fn only_a_control_that_was_started_and_ended_is_known_not_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("sleep 1.{}", std::process::id());
    for (command, has_ended) in [
        (line.clone(), true),
        (format!("{line} & wait; false"), true),
        ("exit 7".into(), false),
    ] {
        let record = started_by(folder.path(), &line, &command);
        let start = control::Start {
            command: record.start_control.as_deref(),
            limit: Duration::from_secs(60),
            log: &keeper::Log::Unknown,
        };
        let started = control::starts(&record, &start).await;
        match started {
            Ok(control::Started::Ended(why)) if has_ended => assert!(why.message.contains("ended 3 times"), "{why}"),
            Err(why) if !has_ended => assert!(why.message.contains("has ended (exit status: 7)"), "{why}"),
            other => panic!("{command}: {other:?}"),
        }
    }
}
