//! `proxy.toml` is read strictly, and every key of the contract is there.

use super::*;
use std::slice;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("proxy.toml"), text)
}

#[test]
fn an_empty_file_means_the_defaults_of_the_contract() {
    let config = parse("").unwrap();
    assert_eq!(config.control.to_string(), "unix:/run/miren/control.sock");
    assert_eq!(config.user, "miren-proxy");
    assert_eq!(config.http, ["0.0.0.0:80".parse().unwrap()]);
    assert_eq!(config.admin, "127.0.0.1:9465".parse().unwrap());
    assert_eq!(config.timeouts.header, Duration::from_secs(10));
    assert_eq!(config.timeouts.upstream_connect, Duration::from_secs(1));
    assert_eq!(config.limits.header_bytes, Bytes(64 << 10));
    assert_eq!(
        (config.limits.waiting_requests, config.limits.waiting_bytes),
        (1000, Bytes(64 << 20))
    );
    assert_eq!(
        (config.limits.connections, config.limits.connections_per_ip),
        (0, 0),
        "derived"
    );
    assert_eq!(config.slots, parse_slots(AUTO_SLOTS).unwrap());
    assert!(config.threads > 0);
    let drain = config.drain;
    assert_eq!(drain.lame_duck, Duration::ZERO);
    assert_eq!(
        (
            drain.request_timeout,
            drain.tunnel_timeout,
            drain.upgrade_tunnel_timeout
        ),
        (
            Duration::from_secs(30),
            Duration::from_secs(30),
            Duration::from_secs(3600)
        )
    );
}

#[test]
fn b1_unknown_keys_and_bad_values_are_reported_together_with_their_lines() {
    let text = "slots = \"pinned:here\"\n[limits]\nheader_byte = \"1KiB\"\n[trust]\nproxies = [\"10.0.0.0/40\"]\n";
    let problems = parse(text).unwrap_err();
    let places: Vec<(usize, &str)> = problems
        .0
        .iter()
        .map(|problem| (problem.line, problem.key.as_str()))
        .collect();
    assert_eq!(
        places,
        [(1, "slots"), (3, "limits.header_byte"), (5, "trust.proxies[0]")],
        "{problems}"
    );
}

#[test]
fn f13_the_cap_on_connections_can_be_set_within_reason() {
    let set = |text: &str| parse(text).map(|config| (config.limits.connections, config.limits.connections_per_ip));
    assert_eq!(
        set("limits.connections = 50000\nlimits.connections_per_ip = 100").unwrap(),
        (50_000, 100)
    );
    for refused in [
        "limits.connections = -1",
        "limits.connections = 2000000001",
        "limits.connections = \"many\"",
    ] {
        assert_eq!(set(refused).unwrap_err().0[0].key, "limits.connections", "{refused}");
    }
}

#[test]
fn the_slot_table_is_a_pin_folder_or_a_file() {
    let named = |text: &str| parse(&format!("slots = {text:?}")).unwrap().slots;
    let (pins, file) = (
        SlotSource::Pinned("/sys/fs/bpf/a".into()),
        SlotSource::File("/run/a,b/slots".into()),
    );
    assert_eq!(named("pinned:/sys/fs/bpf/a"), slice::from_ref(&pins));
    assert_eq!(named("file:/run/a,b/slots"), slice::from_ref(&file));
    assert_eq!(named("pinned:/sys/fs/bpf/a,file:/run/a,b/slots"), [pins, file]);
    for refused in ["", "file:here", "file:/a,pinned:here\n", "/run/slots"] {
        assert!(parse(&format!("slots = {refused:?}")).is_err(), "{refused}");
    }
}

#[test]
fn trusted_networks_cover_their_addresses_only() {
    let private = Network::parse("10.0.0.0/8").unwrap();
    assert!(private.contains("10.9.8.7".parse().unwrap()));
    assert!(
        private.contains("::ffff:10.9.8.7".parse().unwrap()),
        "a dual-stack listener shows IPv4 mapped"
    );
    assert!(!private.contains("11.0.0.1".parse().unwrap()));
    let one = Network::parse("2001:db8::1").unwrap();
    assert!(one.contains("2001:db8::1".parse().unwrap()) && !one.contains("2001:db8::2".parse().unwrap()));
    assert!(
        Network::parse("0.0.0.0/0")
            .unwrap()
            .contains("192.0.2.1".parse().unwrap())
    );
    assert!(Network::parse("::/0").unwrap().contains("2001:db8::1".parse().unwrap()));
}

#[test]
fn the_reference_names_every_key_of_the_contract() {
    let keys: Vec<String> = reference().into_iter().map(|key| key.path).collect();
    for key in [
        "control",
        "data_dir",
        "user",
        "listen.http",
        "admin.listen",
        "timeouts.wait_for_capacity",
        "trust.proxies",
        "limits.waiting_bytes",
        "limits.connections",
        "limits.connections_per_ip",
        "drain.lame_duck",
        "drain.request_timeout",
        "drain.tunnel_timeout",
        "drain.upgrade_tunnel_timeout",
        "drain.supervisor_timeout",
        "slots",
        "threads",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key} is missing in {keys:?}");
    }
}

#[test]
fn a_stop_fits_into_the_patience_of_the_supervisor() {
    for fits in [
        "",
        "drain.request_timeout = \"83s\"",
        "drain.tunnel_timeout = \"10m\"\ndrain.supervisor_timeout = \"607s\"",
        "drain.lame_duck = \"1h\"\ndrain.supervisor_timeout = \"0s\"",
        // Nobody waits for it.
        "drain.upgrade_tunnel_timeout = \"24h\"",
    ] {
        parse(fits).unwrap_or_else(|problems| panic!("{fits}: {problems}"));
    }
    for refused in [
        "drain.request_timeout = \"84s\"",
        "drain.tunnel_timeout = \"84s\"",
        "drain.lame_duck = \"54s\"",
        "drain.supervisor_timeout = \"36s\"",
    ] {
        let problem = &parse(refused).unwrap_err().0[0];
        assert_eq!(problem.key, "drain.supervisor_timeout", "{refused}");
        assert!(problem.message.contains("TimeoutStopSec"), "{problem:?}");
    }
}
