//! `control.toml` is read strictly.

use super::*;
use miren_sandbox::Egress;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("control.toml"), text)
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.socket(), Path::new("/run/miren/control.sock"));
    assert_eq!(config.api.proxy_user, ProxyUser::Name("miren-proxy".into()));
    assert_eq!(config.on_stop, OnStop::Keep);
    assert_eq!(config.drain.node_timeout, Duration::ZERO);
}

#[test]
fn every_key_of_the_contract_is_taken() {
    let text = "name = \"a\"\ndata_dir = \"/d\"\nrun_dir = \"/r\"\non_stop = \"remove\"\n[api]\nproxy_user = \"1000\"\n\
                [store]\nkind = \"sqlite\"\n[fast_path]\nmode = \"off\"\npin_dir = \"/sys/fs/bpf/a\"\n\
                [network]\nbridge = \"a0\"\nsubnet = \"10.99.0.0/16\"\n[runtime]\nkind = \"embedded\"\n\
                [drain]\nrequest_timeout = \"1s\"\ntunnel_timeout = \"1s\"\nstop_grace = \"1s\"\nnode_timeout = \"1m\"\n\
                [metrics]\nlisten = \"127.0.0.1:0\"\n";
    let config = parse(text).unwrap();
    assert_eq!(config.api.proxy_user, ProxyUser::Uid(1000));
    assert_eq!(config.network.bridge, "a0");
}

#[test]
fn b1_all_mistakes_are_reported_at_once() {
    let text = "nmae = \"a\"\ndata_dir = \"var\"\n[network]\nbridge = \"a-bridge-name-too-long\"\nsubnet = \"x\"\n\
                [runtime]\nkind = \"docker\"\n";
    let problems = parse(text).unwrap_err();
    let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        ["nmae", "data_dir", "network.bridge", "network.subnet", "runtime.kind"]
    );
    assert!(problems.to_string().contains("did you mean \"name\"?"), "{problems}");
}

#[test]
fn the_reference_names_every_key_once() {
    let mut paths: Vec<String> = reference().into_iter().map(|key| key.path).collect();
    let count = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), count);
    assert!(paths.contains(&"fast_path.pin_dir".to_owned()));
}

#[test]
fn f3_egress_and_what_is_allowed_are_read_strictly() {
    let config = parse("[network]\negress = \"deny\"\nallow = [\"10.0.0.0/8:5432\", \"192.0.2.7:53/udp\"]\n").unwrap();
    assert_eq!(config.network.egress, Egress::Deny);
    let allowed: Vec<String> = config.network.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.0/8:5432", "192.0.2.7:53/udp"]);
    let wrong =
        "[network]\negress = \"all\"\nallow = [\"10.0.0.0/8\", \"10.0.0.1/8\", \"db:5432\"]\ningress = [\"80\"]\n";
    let problems = parse(wrong).unwrap_err();
    let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "network.egress",
            "network.allow[1]",
            "network.allow[2]",
            "network.ingress[0]"
        ]
    );
    let text = problems.to_string();
    assert!(
        text.contains("control.toml:3") && text.contains("write 10.0.0.0/8"),
        "{text}"
    );
}

#[test]
fn f3_the_ingress_is_where_urls_lead_unless_set() {
    let ports =
        |text: &str| -> Vec<String> { parse(text).unwrap().ingress().iter().map(ToString::to_string).collect() };
    assert_eq!(ports(""), ["0.0.0.0:80"]);
    assert_eq!(ports("[ingress]\nscheme = \"https\"\n"), ["0.0.0.0:80", "0.0.0.0:443"]);
    assert_eq!(ports("[ingress]\nport = 8080\n"), ["0.0.0.0:8080"]);
    let set = "[network]\ningress = [\"203.0.113.1:80\"]\n[ingress]\nport = 8080\n";
    assert_eq!(ports(set), ["203.0.113.1:80"]);
}

#[test]
fn g15_the_domain_of_apps_is_a_name_that_others_can_be_below() {
    let domain = |text: &str| {
        let parsed = parse(&format!("[ingress]\napps_domain = {text:?}\n"));
        parsed.map(|config| config.policy.urls.apps_domain)
    };
    for (written, kept) in [
        ("localhost", "localhost"),
        ("Apps.Example.com.", "apps.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
    ] {
        assert_eq!(domain(written).unwrap().as_deref(), Some(kept), "{written}");
    }
    let long = format!("{}.{}", "a".repeat(63), "b".repeat(62));
    let wrong = [
        ("", "is empty"),
        ("*.example.com", "wildcard"),
        ("example.com:8080", "host"),
        ("http://example.com", "label"),
        ("127.0.0.1", "address"),
        ("10.1", "address"),
        ("under_score.com", "label"),
        (&long, "no room"),
    ];
    for (written, why) in wrong {
        let problems = domain(written).unwrap_err().to_string();
        assert!(problems.contains("ingress.apps_domain"), "{written}: {problems}");
        assert!(problems.contains(why) || why == "host", "{written}: {problems}");
    }
    assert!(domain(&long[1..]).is_ok());
    assert_eq!(parse("").unwrap().policy.urls.apps_domain, None);
}
