//! Decides what the specification of a sandbox says.

use super::*;
use libcontainer::oci_spec::runtime::Spec;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn made(limits: Limits, overlay: bool) -> Value {
    let program = Program {
        args: ["node", "server.js"].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("PORT".to_owned(), "3000".to_owned())]),
        cwd: "/app".into(),
        user: User::default(),
    };
    let upper = overlay.then(|| Upper {
        upper: "/run/miren/sandboxes/sb-1/scratch/app/upper".into(),
        work: "/run/miren/sandboxes/sb-1/scratch/app/work".into(),
    });
    let above = upper.map_or(Above::Nothing, Above::Upper);
    of(&program, Some(app_files(above)), Writable::TmpAndRun, limits)
}

fn app_files(above: Above) -> AppFiles<'static> {
    let folder = Path::new("/var/lib/miren/artifacts/abc");
    AppFiles { folder, above }
}

fn of(program: &Program, app_files: Option<AppFiles<'_>>, writable: Writable, limits: Limits) -> Value {
    let input = SpecInput {
        attach: None,
        sandbox: "sb-1",
        program,
        app_files,
        writable,
        shown: vec![Shown {
            host: PathBuf::from("/usr"),
            inside: PathBuf::from("/usr"),
        }],
        open: Vec::new(),
        init: Shown {
            host: PathBuf::from("/run/miren/sandboxes/sb-1/scratch/init"),
            inside: PathBuf::from("/dev/miren"),
        },
        volumes: Vec::new(),
        namespace: Path::new("/run/miren/netns/sb-1"),
        cgroup: "/miren-one/sb-1".into(),
        limits,
        masks: Masks::First,
    };
    let powers = Powers {
        capabilities: vec!["CAP_CHOWN"],
        open_files: 1024,
    };
    spec(&SandboxDir::new(Path::new("/run/miren"), "sb-1"), &input, &powers)
}

const LIMITS: Limits = Limits {
    memory: Some(Bytes(64 << 20)),
    cpu: Some(0.5),
    pids: Some(10),
};

fn mount<'s>(spec: &'s Value, destination: &str) -> &'s Value {
    let mounts = spec["mounts"].as_array().expect("mounts");
    mounts
        .iter()
        .find(|mount| mount["destination"] == destination)
        .expect(destination)
}

#[test]
fn the_runtime_understands_every_word_of_it() {
    let spec: Spec = serde_json::from_value(made(LIMITS, true)).expect("a specification");
    assert_eq!(spec.hostname().as_deref(), Some("sb-1"));
    assert!(spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some()));
}

#[test]
fn the_process_has_no_way_to_more_power() {
    let spec = made(LIMITS, true);
    let process = &spec["process"];
    assert_eq!(process["noNewPrivileges"], true);
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(process["capabilities"][set], json!(["CAP_CHOWN"]));
    }
    assert_eq!(process["rlimits"][0]["hard"], 1024);
    assert_eq!(spec["root"]["readonly"], true);
    assert_eq!(
        spec["linux"]["resources"]["devices"],
        json!([{ "allow": false, "access": "rwm" }])
    );
    for kind in ["pid", "ipc", "uts", "mount", "cgroup", "network"] {
        let namespaces = spec["linux"]["namespaces"].as_array().expect("namespaces");
        assert!(namespaces.iter().any(|namespace| namespace["type"] == kind), "{kind}");
    }
}

#[test]
fn another_user_of_an_image_has_no_power_of_root_and_a_root_of_its_own() {
    let program = Program {
        args: vec!["/serve".into()],
        cwd: "/srv".into(),
        user: User {
            uid: 1000,
            gid: 1001,
            groups: vec![4, 8],
            home: "/srv".into(),
        },
        ..Program::default()
    };
    let spec = of(&program, None, Writable::All, LIMITS);
    let process = &spec["process"];
    assert_eq!(
        process["user"],
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [1001, 4, 8], "umask": 0o022 })
    );
    assert_eq!(process["capabilities"]["effective"], json!([]));
    assert_eq!(process["capabilities"]["permitted"], json!([]));
    assert_eq!(spec["root"]["readonly"], false);
    let mounts = spec["mounts"].as_array().expect("mounts");
    for hidden in ["/app", "/tmp", "/run"] {
        assert!(mounts.iter().all(|mount| mount["destination"] != hidden), "{hidden}");
    }
    let _: Spec = serde_json::from_value(spec).expect("a specification");
}

#[test]
fn limits_are_in_the_units_of_the_kernel() {
    let resources = &made(LIMITS, true)["linux"]["resources"];
    assert_eq!(resources["memory"], json!({ "limit": 64 << 20, "swap": 64 << 20 }));
    assert_eq!(resources["cpu"], json!({ "quota": 50_000, "period": 100_000 }));
    assert_eq!(resources["pids"], json!({ "limit": 10 }));
    let node = Resources {
        memory: Some(Bytes(1)),
        cpu: None,
        pids: Some(2),
    };
    let service = Resources {
        pids: Some(3),
        ..Resources::default()
    };
    let expected = Limits {
        memory: Some(Bytes(1)),
        cpu: None,
        pids: Some(3),
    };
    assert_eq!(Limits::of(service, node), expected);
}

#[test]
fn app_files_are_never_written_to() {
    let overlay = made(LIMITS, true);
    let options = &mount(&overlay, "/app")["options"];
    assert_eq!(options[0], "lowerdir=/var/lib/miren/artifacts/abc");
    assert_eq!(options[1], "upperdir=/run/miren/sandboxes/sb-1/scratch/app/upper");
    let plain = made(LIMITS, false);
    assert_eq!(
        mount(&plain, "/app")["options"],
        json!(["bind", "ro", "nosuid", "nodev"])
    );
    assert_eq!(
        mount(&plain, "/usr")["options"],
        json!(["bind", "ro", "nosuid", "nodev"])
    );
}

#[test]
fn a_root_that_is_not_to_be_written_has_tmp_and_nothing_else() {
    let program = Program::default();
    let of = |above, writable| of(&program, Some(app_files(above)), writable, LIMITS);
    let spec = of(Above::Nothing, Writable::Tmp);
    assert_eq!(spec["root"]["readonly"], true);
    assert_eq!(
        mount(&spec, "/app")["options"],
        json!(["bind", "ro", "nosuid", "nodev"])
    );
    assert_eq!(mount(&spec, "/tmp")["type"], "tmpfs");
    let destinations = |spec: &Value| -> Vec<String> {
        let mounts = spec["mounts"].as_array().expect("mounts");
        let destination = |mount: &Value| mount["destination"].as_str().expect("a path").to_owned();
        mounts.iter().map(destination).collect()
    };
    assert!(!destinations(&spec).contains(&"/run".to_owned()));
    assert!(destinations(&of(Above::Nothing, Writable::TmpAndRun)).contains(&"/run".to_owned()));
    let points = Above::Points("/run/miren/sandboxes/sb-1/scratch/points".into());
    let spec = of(points, Writable::Tmp);
    let lower = "lowerdir=/var/lib/miren/artifacts/abc:/run/miren/sandboxes/sb-1/scratch/points";
    assert_eq!(mount(&spec, "/app")["options"], json!([lower, "nosuid", "nodev"]));
    let _: Spec = serde_json::from_value(spec).expect("a specification");
}
