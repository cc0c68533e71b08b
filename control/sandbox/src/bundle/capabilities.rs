//! Decides which capabilities root has inside a sandbox.

/// What servers commonly need and what cannot reach beyond the sandbox: the container default without NET_RAW, MKNOD,
/// SYS_CHROOT, AUDIT_WRITE, SETPCAP and SETFCAP. With their numbers, from `linux/capability.h`.
const WANTED: [(&str, u32); 8] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_BIND_SERVICE", 10),
];

/// The wanted capabilities that this process can give: asking for one outside its bounding set fails the whole start.
pub(super) fn grantable() -> std::io::Result<Vec<&'static str>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bounding = bounding_set(&status).ok_or_else(|| std::io::Error::other("/proc/self/status has no CapBnd"))?;
    Ok(within(bounding))
}

fn within(bounding: u64) -> Vec<&'static str> {
    let allowed = WANTED.iter().filter(|(_, number)| bounding >> number & 1 == 1);
    allowed.map(|(name, _)| *name).collect()
}

fn bounding_set(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_lack_is_not_asked_for() {
        assert_eq!(
            bounding_set("Name:\tx\nCapBnd:\t000001fffeffffff\n"),
            Some(0x1ff_feff_ffff)
        );
        assert_eq!(within(u64::MAX).len(), WANTED.len());
        assert_eq!(within(0b1000_0001), ["CAP_CHOWN", "CAP_SETUID"]);
    }
}
