//! Decides which system calls a sandbox cannot make.
//!
//! A list of what is refused: the calls that the usual container profile leaves out and that a newer kernel cannot
//! outgrow by adding to them. What is not on it still meets the missing capabilities and the namespaces.

use serde_json::{Value, json};

/// Refused with EPERM whatever their arguments.
const REFUSED: &[&str] = &[
    // file systems and namespaces
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "setns",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "mount_setattr",
    "open_by_handle_at",
    "name_to_handle_at",
    "quotactl",
    "quotactl_fd",
    "nfsservctl",
    // the kernel itself
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "kexec_load",
    "kexec_file_load",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "syslog",
    "lookup_dcookie",
    "uselib",
    "sysfs",
    "_sysctl",
    "ustat",
    "fanotify_init",
    "iopl",
    "ioperm",
    "vm86",
    "vm86old",
    "modify_ldt",
    "vhangup",
    // the machine's clock
    "settimeofday",
    "clock_settime",
    "clock_settime64",
    "clock_adjtime",
    "clock_adjtime64",
    "adjtimex",
    "stime",
    // other processes and keys
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    "keyctl",
    "add_key",
    "request_key",
    "mbind",
    "set_mempolicy",
    "migrate_pages",
    "move_pages",
];

/// Calls whose first argument holds namespace flags.
const MAKES_NAMESPACES: &[&str] = &["clone", "unshare"];

/// `CLONE_NEW…` of `linux/sched.h`: cgroup, ipc, network, mount, pid, time, user and host name namespaces.
const NAMESPACE_FLAGS: [u64; 8] = [
    0x0200_0000,
    0x0800_0000,
    0x4000_0000,
    0x0002_0000,
    0x2000_0000,
    0x0000_0080,
    0x1000_0000,
    0x0400_0000,
];
/// `CLONE_NEWTIME` is a signal number's bit in `clone`, and a namespace only in `unshare`.
const NEW_TIME: u64 = 0x0000_0080;

/// The profile, as the runtime specification writes it.
pub(super) fn profile() -> Value {
    let mut rules = vec![refuse(REFUSED, libc::EPERM)];
    // Its flags are behind a pointer, which a filter cannot follow; C libraries go on with clone after ENOSYS.
    rules.push(refuse(&["clone3"], libc::ENOSYS));
    for name in MAKES_NAMESPACES {
        let flags = NAMESPACE_FLAGS
            .iter()
            .filter(|flag| **flag != NEW_TIME || *name == "unshare");
        rules.extend(flags.map(|flag| refuse_flag(name, *flag)));
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures(), "syscalls": rules })
}

fn refuse(names: &[&str], errno: i32) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno })
}

fn refuse_flag(name: &str, flag: u64) -> Value {
    let argument = json!({ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" });
    json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM, "args": [argument] })
}

/// Every way into this kernel: a call through one that is not named here would end the process.
fn architectures() -> Value {
    if cfg!(target_arch = "x86_64") {
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    } else if cfg!(target_arch = "aarch64") {
        json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    } else {
        json!(["SCMP_ARCH_NATIVE"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_flag_has_a_rule_of_its_own() {
        let profile = profile();
        let rules = profile["syscalls"].as_array().expect("rules");
        let of = |name: &str| {
            rules
                .iter()
                .filter(|rule| rule["names"][0] == name && rule["args"].is_array())
                .count()
        };
        assert_eq!(of("unshare"), 8);
        assert_eq!(of("clone"), 7);
    }
}
