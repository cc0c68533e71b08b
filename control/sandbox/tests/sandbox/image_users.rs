//! Decides that a user of an image has the groups, the home, the ports and the outputs that docker gives it, in each of its commands.

use crate::archive::Archive;
use crate::client::ask;
use crate::exec::{heard, start};
use crate::images::stop;
use crate::node::{eventually, status_field, with_node};
use std::fs;

/// As it is said, and with which user, group, groups and home it runs.
const USERS: [(&str, &str, &str, &str, &str); 7] = [
    ("", "0", "0", "0", "/root"),
    ("app", "1000", "1001", "4 1001", "/srv"),
    ("1000", "1000", "1001", "4 1001", "/srv"),
    ("app:log", "1000", "4", "4", "/srv"),
    ("1000:5", "1000", "5", "5", "/srv"),
    ("70000", "70000", "0", "0", "/"),
    ("70000:app", "70000", "1001", "1001", "/"),
];

#[test]
fn g2_a_user_is_who_the_accounts_of_its_image_say_it_is_in_each_command() {
    with_node(async |node| {
        for (user, uid, gid, groups, home) in USERS {
            let mut archive = Archive::new();
            archive.config["User"] = user.into();
            let (_, order) = archive.order(node).await;
            let running = node.run(&order).await;
            let mut told = vec![(ask(&running, "read/proc/self/status"), ask(&running, "env"))];
            let app = async |verb, argument| {
                let exec = start(node, &order, &["/bin/app", "do", verb, argument], false).await;
                let said = heard(exec.expect("a command")).await;
                assert_eq!(said.status, Ok(0), "{}", said.err);
                said.out
            };
            told.push((app("read", "proc/self/status").await, app("env", "").await));
            for (status, env) in told {
                for (field, id) in [("Uid", uid), ("Gid", gid)] {
                    assert_eq!(status_field(&status, field), [id; 4].join("\t"), "{user}: {field}");
                }
                assert_eq!(status_field(&status, "Groups").trim(), groups, "{user}");
                assert!(env.lines().any(|line| line == format!("HOME={home}")), "{user}: {env}");
                assert!(!env.contains("USER="), "{user}: {env}");
            }
            stop(node, &order).await;
        }
    });
}

#[test]
fn g2_who_is_not_root_listens_where_it_wants_and_opens_its_own_outputs() {
    with_node(async |node| {
        for user in ["1000", "70000:70000", ""] {
            let mut archive = Archive::new();
            archive.config["User"] = user.into();
            let (_, order) = archive.order(node).await;
            let running = node.run(&order).await;
            assert_eq!(ask(&running, "bind/0.0.0.0:80"), "ok", "{user}");
            let places = ["dev/stdout", "dev/stderr", "proc/self/fd/1", "proc/self/fd/2"];
            for place in places {
                assert_eq!(ask(&running, &format!("write/{place}")), "ok", "{user}: /{place}");
            }
            let log = node.config.log_dir.join(format!("shop/web/{}.log", order.id));
            let text = || fs::read_to_string(&log).unwrap_or_default();
            // The end of a line.
            ask(&running, "print/end");
            eventually("what it wrote is in its log", || text().contains("writtenwrittenend")).await;
            for place in places {
                let command = ["/bin/app", "do", "write", place];
                let said = heard(start(node, &order, &command, true).await.expect("a command")).await;
                let (out, err) = if place.ends_with(['t', '1']) {
                    ("writtenok", "")
                } else {
                    ("ok", "written")
                };
                assert_eq!((&*said.out, &*said.err), (out, err), "{user}: /{place}");
            }
            stop(node, &order).await;
        }
    });
}
