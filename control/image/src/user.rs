//! Decides which numbers a user of an image is, from its own `/etc/passwd` and `/etc/group`.

use crate::error::Fault;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Other groups the user is in, ascending.
    pub groups: Vec<u32>,
    /// The user's folder; the root where the image names none.
    pub home: String,
}

impl Default for User {
    fn default() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: ROOT.to_owned(),
        }
    }
}

/// Where somebody is at home that the image does not know, as in docker.
const ROOT: &str = "/";
/// Longest text that names a user and a group: twice what a C library takes for a name, and the colon.
const NAMES_MAX: usize = 2 * 256 + 1;
/// Longest path that the kernel takes, its last zero not counted.
const PATH_MAX: usize = 4095;

/// Longest of the two files that is read.
pub(crate) const ACCOUNTS_MAX: u64 = 1 << 20;

/// Takes `user`, `uid`, `user:group`, any mix of names and numbers, or nothing, which is user 0.
///
/// A number need not be in the files. With a group given, the user's other groups do not count.
pub(crate) fn resolve(text: &str, passwd: &str, group: &str) -> Result<User, Fault> {
    if text.len() > NAMES_MAX {
        return Err(Fault::unsupported(format_args!(
            "a user that takes {} bytes to name",
            text.len()
        )));
    }
    let (user, chosen) = text
        .split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let named = number(user);
    let account = accounts(passwd).find(|account| account.name == user || named == Some(account.id));
    let home = account.as_ref().map_or(ROOT, |account| account.home).to_owned();
    let (name, uid, gid) = match (&account, named) {
        (Some(account), _) => (Some(account.name), account.id, account.group),
        (None, Some(uid)) => (None, uid, 0),
        (None, None) => return Err(Fault::NotFound(format!("the image has no user {user:?}"))),
    };
    if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) {
        let known = groups(group).find(|group| group.name == chosen).map(|group| group.id);
        let gid = known.or_else(|| number(chosen));
        let gid = gid.ok_or_else(|| Fault::NotFound(format!("the image has no group {chosen:?}")))?;
        return Ok(User {
            uid,
            gid,
            groups: Vec::new(),
            home,
        });
    }
    let is_member = |group: &Group<'_>| name.is_some_and(|name| group.members.split(',').any(|member| member == name));
    let mut extra: Vec<u32> = groups(group).filter(is_member).map(|group| group.id).collect();
    extra.sort_unstable();
    extra.dedup();
    extra.retain(|id| *id != gid);
    Ok(User {
        uid,
        gid,
        groups: extra,
        home,
    })
}

/// A number the kernel takes: the largest one means "leave it as it is".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

struct Account<'a> {
    name: &'a str,
    id: u32,
    group: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    id: u32,
    members: &'a str,
}

/// Lines that make no sense are passed over, as the C library does.
fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id = number(fields.nth(1)?)?;
        let group = number(fields.next()?)?;
        let home = fields.nth(1).filter(|home| is_home(home)).unwrap_or(ROOT);
        Some(Account { name, id, group, home })
    })
}

fn is_home(text: &str) -> bool {
    text.starts_with('/') && text.len() <= PATH_MAX && !text.contains('\0')
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id = number(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        Some(Group { name, id, members })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/srv:\nwww:x:33:33::/:\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nlog:x:4:www,app\nmail:x:8:app\n:x:9:app\nweb:x:33:\n";

    fn user(text: &str) -> (u32, u32, Vec<u32>) {
        let user = resolve(text, PASSWD, GROUP).expect(text);
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn names_and_numbers_mean_the_same_account() {
        assert_eq!(user(""), (0, 0, vec![]));
        assert_eq!(user("app"), (1000, 1001, vec![4, 8]));
        assert_eq!(user("1000"), (1000, 1001, vec![4, 8]));
        assert_eq!(user("1000:"), (1000, 1001, vec![4, 8]));
        assert_eq!(user("app:web"), (1000, 33, vec![]));
        assert_eq!(user(":4"), (0, 4, vec![]));
        assert_eq!(user("70000:70001"), (70_000, 70_001, vec![]));
        assert_eq!(user("70000"), (70_000, 0, vec![]));
    }

    #[test]
    fn g2_who_has_an_account_is_at_home_where_it_says_and_others_in_the_root() {
        let home = |text: &str, passwd: &str| resolve(text, passwd, GROUP).expect(text).home;
        for (text, expected) in [
            ("", "/root"),
            ("app", "/srv"),
            ("1000:web", "/srv"),
            ("1000:5", "/srv"),
            ("70000", "/"),
        ] {
            assert_eq!(home(text, PASSWD), expected, "{text}");
        }
        let long = format!("x:x:1:1::/{}:", "x".repeat(PATH_MAX));
        for line in [
            "x:x:1:1",
            "x:x:1:1:",
            "x:x:1:1::",
            "x:x:1:1:::",
            "x:x:1:1::srv:",
            "x:x:1:1::/a\0b:",
            &long,
        ] {
            assert_eq!(home("x", line), "/", "{line}");
        }
        assert_eq!(home("0", ""), "/");
        assert_eq!(home("+01000", PASSWD), "/srv", "as the number it is");
    }

    #[test]
    fn an_unknown_name_and_a_number_of_special_meaning_are_refused() {
        for text in ["nobody", "app:nobody", "4294967295", "-1", "0:4294967295"] {
            let fault = resolve(text, PASSWD, GROUP).expect_err(text);
            assert!(matches!(fault, Fault::NotFound(_)), "{fault}");
        }
        let fault = resolve(&"x".repeat(NAMES_MAX + 1), PASSWD, GROUP).expect_err("too long");
        assert_eq!(fault.to_string(), "a user that takes 514 bytes to name");
    }
}
