//! Decides which system calls a sandbox can make.
//!
//! A list of what is allowed, as the usual container profile: a call that a newer kernel adds is not one of them. What is on no list
//! fails with ENOSYS, so that a C library takes the way it has for older kernels; what is known and refused, with EPERM.

mod calls;
#[cfg(test)]
mod tests;

use calls::{allowed, refused};
use serde_json::{Value, json};

/// Calls whose first argument holds namespace flags. `clone3` has them behind a pointer, which a filter cannot follow: it is on no
/// list, and C libraries go on with `clone`.
const MAKES_NAMESPACES: &[&str] = &["clone", "unshare"];
/// `CLONE_NEW…` of `linux/sched.h`: cgroup, ipc, network, mount, pid, time, user and host name namespaces.
const NAMESPACE_FLAGS: [u32; 8] = [
    0x0200_0000,
    0x0800_0000,
    0x4000_0000,
    0x0002_0000,
    0x2000_0000,
    NEW_TIME,
    0x1000_0000,
    0x0400_0000,
];
/// `CLONE_NEWTIME` is a signal number's bit in `clone`, and a namespace only in `unshare`.
const NEW_TIME: u32 = 0x0000_0080;

/// Calls whose first argument is a family of addresses.
const MAKES_SOCKETS: &[&str] = &["socket", "socketpair"];
/// `AF_UNIX`, `AF_INET` and `AF_INET6`.
const FAMILIES: [u32; 3] = [1, 2, 10];
/// `AF_NETLINK`, and the only protocol of it: `NETLINK_ROUTE`, which lists a sandbox's own addresses.
const NETLINK: u32 = 16;
const ROUTE: u32 = 0;

/// `PER_LINUX` and `PER_LINUX32`, either with `UNAME26`; and the question which one it is.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x0002_0000, 0x0002_0008, u32::MAX];

/// `TIOCSTI` and `TIOCLINUX`: what types on a terminal for somebody else.
const TYPES_FOR_OTHERS: [u32; 2] = [0x5412, 0x541c];

/// In which order a runtime reads the two numbers of `SCMP_CMP_MASKED_EQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Masks {
    /// The mask is `value`, as in the runtime specification and in runc.
    First,
    /// The mask is `valueTwo`, as in libcontainer 0.7.
    Second,
}

/// Which numbers an argument has for a rule: those that are `value` where `mask` has ones. Masks have 32 bits: the kernel cuts these
/// arguments off there, so what is above them must not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    index: u32,
    mask: u32,
    value: u32,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// It fails with this error number.
    Refuse(i32),
}

/// What happens to calls of these names whose arguments match all of `arguments`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    names: Vec<&'static str>,
    verdict: Verdict,
    arguments: Vec<Match>,
}

/// The profile, as the runtime specification writes it.
pub(super) fn profile(masks: Masks) -> Value {
    let rules: Vec<Value> = rules().iter().map(|rule| rule.in_json(masks)).collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

fn rules() -> Vec<Rule> {
    let mut rules = vec![
        Rule::new(&allowed(), Verdict::Allow, &[]),
        Rule::new(&refused(), Verdict::Refuse(libc::EPERM), &[]),
    ];
    for name in MAKES_NAMESPACES {
        rules.extend(namespaces(std::slice::from_ref(name), *name == "unshare"));
    }
    rules.extend(sockets());
    let not_these = Verdict::Refuse(libc::EPERM);
    rules.extend(by_value(
        &["personality"],
        0,
        &PERSONALITIES,
        (Verdict::Allow, not_these),
    ));
    rules.extend(by_value(&["ioctl"], 1, &TYPES_FOR_OTHERS, (not_these, Verdict::Allow)));
    rules
}

/// Processes and threads are made, namespaces are not.
fn namespaces(names: &[&'static str], with_time: bool) -> Vec<Rule> {
    let flags = NAMESPACE_FLAGS.iter().filter(|flag| with_time || **flag != NEW_TIME);
    let all = flags.clone().fold(0, |all, flag| all | flag);
    let of = |verdict, mask, value| Rule::new(names, verdict, &[Match { index: 0, mask, value }]);
    let refused = flags.map(|flag| of(Verdict::Refuse(libc::EPERM), *flag, *flag));
    std::iter::once(of(Verdict::Allow, all, 0)).chain(refused).collect()
}

/// Other families are refused as by a kernel that was built without them, which programs are prepared for.
fn sockets() -> Vec<Rule> {
    let no_such_family = Verdict::Refuse(libc::EAFNOSUPPORT);
    let family = |value| Match::exactly(0, value);
    let mut rules: Vec<Rule> = FAMILIES
        .iter()
        .map(|value| Rule::new(MAKES_SOCKETS, Verdict::Allow, &[family(*value)]))
        .collect();
    rules.push(Rule::new(
        MAKES_SOCKETS,
        Verdict::Allow,
        &[family(NETLINK), Match::exactly(2, ROUTE)],
    ));
    let other_protocols = all_but(2, &[ROUTE]).into_iter();
    rules.extend(other_protocols.map(|other| Rule::new(MAKES_SOCKETS, no_such_family, &[family(NETLINK), other])));
    let known = [&FAMILIES[..], &[NETLINK]].concat();
    let others = all_but(0, &known).into_iter();
    rules.extend(others.map(|other| Rule::new(MAKES_SOCKETS, no_such_family, &[other])));
    rules
}

/// One verdict where an argument is one of `values`, another one where it is none of them.
fn by_value(names: &[&'static str], index: u32, values: &[u32], (these, others): (Verdict, Verdict)) -> Vec<Rule> {
    let rule = |verdict| move |found: Match| Rule::new(names, verdict, &[found]);
    let found = values
        .iter()
        .map(|value| Match::exactly(index, *value))
        .map(rule(these));
    found
        .chain(all_but(index, values).into_iter().map(rule(others)))
        .collect()
}

/// Matches that together have every number but these, each number once: the branches of a binary tree that lead to none of them.
fn all_but(index: u32, values: &[u32]) -> Vec<Match> {
    let mut found = Vec::new();
    // How many of the upper bits are settled, and which numbers those bits make.
    let mut branches = vec![(0, 0)];
    while let Some((settled, value)) = branches.pop() {
        let mask = u32::MAX.checked_shl(32 - settled).unwrap_or(0);
        if !values.iter().any(|other| other & mask == value) {
            found.push(Match { index, mask, value });
        } else if settled < 32 {
            let one = 1 << (31 - settled);
            branches.extend([(settled + 1, value), (settled + 1, value | one)]);
        }
    }
    found
}

impl Match {
    fn exactly(index: u32, value: u32) -> Self {
        Self {
            index,
            mask: u32::MAX,
            value,
        }
    }

    fn in_json(self, masks: Masks) -> Value {
        let (first, second) = match masks {
            Masks::First => (self.mask, self.value),
            Masks::Second => (self.value, self.mask),
        };
        json!({ "index": self.index, "value": first, "valueTwo": second, "op": "SCMP_CMP_MASKED_EQ" })
    }
}

impl Rule {
    fn new(names: &[&'static str], verdict: Verdict, arguments: &[Match]) -> Self {
        Self {
            names: names.to_vec(),
            verdict,
            arguments: arguments.to_vec(),
        }
    }

    fn in_json(&self, masks: Masks) -> Value {
        let arguments: Vec<Value> = self.arguments.iter().map(|found| found.in_json(masks)).collect();
        let mut rule = match self.verdict {
            Verdict::Allow => json!({ "names": self.names, "action": "SCMP_ACT_ALLOW" }),
            Verdict::Refuse(errno) => json!({ "names": self.names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno }),
        };
        if !arguments.is_empty() {
            rule["args"] = Value::Array(arguments);
        }
        rule
    }
}

/// The only way into this kernel. A call of a 32-bit program, or of an x32 one, ends it with SIGSYS: those ways have numbers and
/// calls of their own, which nothing here has looked at.
fn architectures() -> Value {
    if cfg!(target_arch = "x86_64") {
        json!(["SCMP_ARCH_X86_64"])
    } else if cfg!(target_arch = "aarch64") {
        json!(["SCMP_ARCH_AARCH64"])
    } else {
        json!(["SCMP_ARCH_NATIVE"])
    }
}
