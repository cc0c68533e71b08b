//! What the daemon is to builders, and nothing else.

fn main() {
    miren_build::helper_main_if_asked();
}
