//! What is in the programs that are shipped, and what is not.

use std::fs;

use miren_blackbox::Binaries;

/// What every program with fail points has in it: the variable that arms them.
const ARMS: &[u8] = b"MIREN_FAULTS";

#[test]
fn f0_what_is_shipped_has_no_fail_points() {
    for name in ["miren", "miren-control", "miren-proxy"] {
        let program = fs::read(Binaries::find().path(name)).expect("reading a program");
        let is_armed = program.windows(ARMS.len()).any(|window| window == ARMS);
        assert!(!is_armed, "{name} has fail points");
    }
}
