//! What the profile says of single calls, as the kernel would read it.

use super::*;
use libseccomp::ScmpSyscall;
use std::collections::BTreeSet;

/// What happens to a call with these arguments, by rules that must not contradict each other.
fn verdict(name: &str, arguments: [u64; 3]) -> Option<Verdict> {
    let matches = |found: &Match| arguments[found.index as usize] & u64::from(found.mask) == u64::from(found.value);
    let rules = rules();
    let hits = rules
        .iter()
        .filter(|rule| rule.names.contains(&name) && rule.arguments.iter().all(matches));
    let verdicts: Vec<Verdict> = hits.map(|rule| rule.verdict).collect();
    assert!(
        verdicts.windows(2).all(|pair| pair[0] == pair[1]),
        "{name}{arguments:x?}: {verdicts:?}"
    );
    verdicts.first().copied()
}

const EPERM: Option<Verdict> = Some(Verdict::Refuse(libc::EPERM));
const NO_FAMILY: Option<Verdict> = Some(Verdict::Refuse(libc::EAFNOSUPPORT));
const ALLOW: Option<Verdict> = Some(Verdict::Allow);
/// Above what the kernel looks at.
const HIGH: u64 = 1 << 32;

#[test]
fn f5_what_is_on_no_list_does_not_exist() {
    for name in ["clone3", "a_call_of_2030", "io_uring_register2", "socketcall"] {
        assert_eq!(verdict(name, [0; 3]), None, "{name}");
    }
    for masks in [Masks::First, Masks::Second] {
        let profile = profile(masks);
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(profile["defaultErrnoRet"], libc::ENOSYS);
        assert_eq!(profile["architectures"].as_array().map(Vec::len), Some(1), "one way in");
    }
}

#[test]
fn f5_no_name_is_allowed_and_refused_or_named_twice() {
    let names: Vec<&str> = [allowed(), refused()].concat();
    let different: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(different.len(), names.len());
    for name in ["clone", "unshare", "socket", "socketpair", "personality", "ioctl"] {
        assert!(!different.contains(name), "{name} is looked at by its arguments");
    }
}

/// Calls of kernels from 6.5 to 6.19, which libseccomp 2.5.4 came too early for.
const NEWER: &str = "cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount \
                     lsm_set_self_attr mseal uretprobe setxattrat getxattrat listxattrat removexattrat open_tree_attr \
                     file_setattr listns";

#[test]
fn f5_every_name_is_that_of_a_call() {
    let names: BTreeSet<&str> = [allowed(), refused()].into_iter().flatten().collect();
    let newer: BTreeSet<&str> = NEWER.split(' ').collect();
    // Also of other architectures: it knows those of all.
    let is_known = |name: &str| newer.contains(name) || ScmpSyscall::from_name(name).is_ok();
    let unknown: Vec<&&str> = names.iter().filter(|name| !is_known(name)).collect();
    assert!(
        unknown.is_empty(),
        "a runtime leaves these out without a word: {unknown:?}"
    );
    let unused: Vec<&&str> = newer.difference(&names).collect();
    assert!(unused.is_empty(), "on no list: {unused:?}");
    assert!(!is_known("getgruops"), "whoever is asked knows everything");
}

#[test]
fn f5_dangerous_calls_are_refused_and_new_harmless_ones_are_not() {
    for name in [
        "mount",
        "fsopen",
        "open_tree",
        "open_tree_attr",
        "mount_setattr",
        "move_mount",
        "statmount",
        "io_uring_setup",
        "bpf",
        "ptrace",
        "keyctl",
        "userfaultfd",
        "perf_event_open",
        "kexec_load",
        "setns",
        "pidfd_getfd",
        "open_by_handle_at",
    ] {
        assert_eq!(verdict(name, [0; 3]), EPERM, "{name}");
    }
    for name in [
        "futex_waitv",
        "futex_wake",
        "cachestat",
        "fchmodat2",
        "map_shadow_stack",
        "mseal",
        "openat2",
        "statx",
        "rseq",
        "close_range",
        "faccessat2",
        "epoll_pwait2",
        "memfd_create",
        "landlock_create_ruleset",
        "pidfd_open",
        "getrandom",
        "execve",
    ] {
        assert_eq!(verdict(name, [0; 3]), ALLOW, "{name}");
    }
}

#[test]
fn f5_only_families_of_the_list_become_sockets() {
    for name in ["socket", "socketpair"] {
        for family in 0..64 {
            let expected = if [1, 2, 10, 16].contains(&family) {
                ALLOW
            } else {
                NO_FAMILY
            };
            for high in [0, HIGH, u64::MAX << 32] {
                assert_eq!(verdict(name, [family | high, 1, 0]), expected, "{name} {family}");
            }
        }
        for protocol in 1..32 {
            assert_eq!(verdict(name, [16, 3, protocol]), NO_FAMILY, "netlink {protocol}");
        }
    }
}

#[test]
fn f5_no_flag_of_a_namespace_gets_through() {
    for flag in NAMESPACE_FLAGS {
        for (name, expected) in [
            ("unshare", EPERM),
            ("clone", if flag == NEW_TIME { ALLOW } else { EPERM }),
        ] {
            assert_eq!(
                verdict(name, [u64::from(flag) | 0x11, 0, 0]),
                expected,
                "{name} {flag:x}"
            );
        }
    }
    let all = NAMESPACE_FLAGS.iter().fold(0, |all, flag| all | u64::from(*flag));
    assert_eq!(verdict("clone", [all, 0, 0]), EPERM);
    // What the C library passes for a thread, and for a fork.
    assert_eq!(verdict("clone", [0x003d_0f00, 0, 0]), ALLOW);
    assert_eq!(verdict("clone", [0x0120_0011, 0, 0]), ALLOW);
    assert_eq!(verdict("unshare", [0x0000_0200, 0, 0]), ALLOW);
}

#[test]
fn f5_nothing_types_on_a_terminal_for_others() {
    for sign in [0, HIGH, u64::MAX << 32] {
        assert_eq!(verdict("ioctl", [0, 0x5412 | sign, 0]), EPERM);
        assert_eq!(verdict("ioctl", [0, 0x541c | sign, 0]), EPERM);
        for request in [0x5401, 0x5411, 0x5413, 0x541b, 0x541d, 0x5421, 0x8004_5430, 0x1_5412] {
            assert_eq!(verdict("ioctl", [0, request | sign, 0]), ALLOW, "{request:x}");
        }
    }
}

#[test]
fn f5_personalities_that_weaken_are_refused() {
    for persona in [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert_eq!(verdict("personality", [persona, 0, 0]), ALLOW, "{persona:x}");
    }
    // Fixed addresses, readable pages that can be executed, a page at zero.
    for persona in [0x4_0000, 0x40_0000, 0x10_0000, 0x1, 0x6] {
        assert_eq!(verdict("personality", [persona, 0, 0]), EPERM, "{persona:x}");
    }
}

#[test]
fn f5_all_but_some_is_every_other_number_once() {
    let numbers = [0, 1, 7, 0x5412, 0x541c, 0x8000_0000, u32::MAX];
    let found = all_but(0, &numbers);
    let hits = |number: u32| found.iter().filter(|found| number & found.mask == found.value).count();
    for number in numbers {
        assert_eq!(hits(number), 0, "{number:x}");
        for bit in 0..32 {
            let other = number ^ (1 << bit);
            assert_eq!(hits(other), usize::from(!numbers.contains(&other)), "{other:x}");
        }
    }
    assert_eq!(
        all_but(0, &[]),
        [Match {
            index: 0,
            mask: 0,
            value: 0
        }]
    );
}

#[test]
fn f5_a_mask_is_where_the_runtime_looks_for_it() {
    let found = Match {
        index: 1,
        mask: 0xff,
        value: 3,
    };
    let order = |masks| {
        let json = found.in_json(masks);
        (json["value"].as_u64(), json["valueTwo"].as_u64())
    };
    assert_eq!(order(Masks::First), (Some(0xff), Some(3)));
    assert_eq!(order(Masks::Second), (Some(3), Some(0xff)));
}
