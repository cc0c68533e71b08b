//! Any text as `app.toml` and as `Procfile`: what the property tests hold, where coverage leads.
#![no_main]

#[path = "../../tests/app_file/hold.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|text: &str| hold::hold(text, text));
