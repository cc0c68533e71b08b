//! One test for each arrow of the deploy machine, and for each thing that must not be one.

use super::*;
use crate::app::variables::Variables;
use crate::record::{Content, Source};
use miren_api::deploy::{Deploy, DeployRequest};
use miren_api::id::{AppName, DeployId};

const ALL: [DeployStatus; 9] = [
    DeployStatus::Accepted,
    DeployStatus::Staging,
    DeployStatus::Starting,
    DeployStatus::Switching,
    DeployStatus::DrainingOld,
    DeployStatus::Succeeded,
    DeployStatus::Failed,
    DeployStatus::Superseded,
    DeployStatus::RolledBack,
];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// Deploy number 2 of an app whose number 1 serves.
fn deploy(status: DeployStatus) -> DeployRecord {
    let deploy = Deploy {
        id: DeployId::from_text("dep-2"),
        app: AppName::from_text("shop"),
        version: None,
        seq: 2,
        status,
        pool: None,
        reused: false,
        urls: Vec::new(),
        default_route: false,
        started_at: at(0),
        finished_at: None,
        error: None,
        progress: None,
        steps: Vec::new(),
    };
    let source = Source {
        content: Content {
            artifact: "sha256:aa".into(),
            ..Content::default()
        },
        variables: Variables::default(),
        version: None,
        settings: None,
    };
    let mut record = DeployRecord::new(deploy, DeployRequest::default(), source);
    record.starting_at = Some(at(0));
    record
}

fn seen(installed: u64, pools: &[(u32, u32)]) -> Seen {
    Seen {
        installed,
        pools: pools
            .iter()
            .map(|(ready, wanted)| PoolSeen {
                service: "web".into(),
                ready: *ready,
                wanted: *wanted,
                ..PoolSeen::default()
            })
            .collect(),
        ..Seen::default()
    }
}

fn published(status: DeployStatus) -> DeployRecord {
    let mut record = deploy(status);
    record.generation = Some(7);
    record
}

#[test]
fn accepted_and_half_staged_ones_stage() {
    assert_eq!(next(&deploy(DeployStatus::Accepted), &seen(1, &[]), at(0)), Step::Stage);
    assert_eq!(next(&deploy(DeployStatus::Staging), &seen(1, &[]), at(0)), Step::Stage);
}

#[test]
fn starting_waits_until_every_pool_is_ready_then_switches() {
    let starting = deploy(DeployStatus::Starting);
    let wait = Step::Wait(Some(at(60)));
    assert_eq!(next(&starting, &seen(1, &[(1, 2)]), at(1)), wait);
    assert_eq!(next(&starting, &seen(1, &[(2, 2), (0, 1)]), at(1)), wait);
    assert_eq!(next(&starting, &seen(1, &[(2, 2), (1, 1)]), at(1)), Step::Switch);
}

#[test]
fn starting_fails_at_a_boot_failure_with_its_reason() {
    let mut facts = seen(1, &[(0, 1)]);
    facts.pools[0].failure = Some("port 3000 refused".into());
    let Step::Finish(DeployStatus::Failed, Some(error)) = next(&deploy(DeployStatus::Starting), &facts, at(1)) else {
        panic!("it goes on");
    };
    assert!(error.contains("port 3000 refused") && error.contains("web"), "{error}");
}

#[test]
fn starting_fails_when_its_time_is_over_which_covers_a_long_port_timeout() {
    let starting = deploy(DeployStatus::Starting);
    let late = next(&starting, &seen(1, &[(1, 2)]), at(60));
    assert!(
        matches!(&late, Step::Finish(DeployStatus::Failed, Some(error)) if error.contains("1 of 2")),
        "{late:?}"
    );
    let patient = Seen {
        port_timeout: Duration::from_secs(100),
        ..seen(1, &[(1, 2)])
    };
    assert_eq!(next(&starting, &patient, at(60)), Step::Wait(Some(at(115))));
}

#[test]
fn switching_publishes_once_then_waits_for_every_proxy() {
    assert_eq!(
        next(&deploy(DeployStatus::Switching), &seen(1, &[]), at(0)),
        Step::Switch
    );
    let switched = published(DeployStatus::Switching);
    assert_eq!(next(&switched, &seen(2, &[]), at(0)), Step::Wait(None));
    let acknowledged = Seen {
        acknowledged: true,
        ..seen(2, &[])
    };
    assert_eq!(next(&switched, &acknowledged, at(0)), Step::Retire);
}

#[test]
fn a_switched_deploy_that_a_newer_one_replaced_still_succeeded() {
    assert_eq!(
        next(&published(DeployStatus::Switching), &seen(3, &[]), at(0)),
        Step::Retire
    );
}

#[test]
fn draining_old_ends_when_nothing_old_serves() {
    let draining = published(DeployStatus::DrainingOld);
    let busy = Seen {
        old_serving: 1,
        ..seen(2, &[])
    };
    assert_eq!(next(&draining, &busy, at(0)), Step::Wait(None));
    let done = Step::Finish(DeployStatus::Succeeded, None);
    assert_eq!(next(&draining, &seen(2, &[]), at(0)), done);
}

#[test]
fn p2_an_older_deploy_is_superseded_wherever_it_is_before_its_switch() {
    for status in [
        DeployStatus::Accepted,
        DeployStatus::Staging,
        DeployStatus::Starting,
        DeployStatus::Switching,
    ] {
        let step = next(&deploy(status), &seen(3, &[(1, 1)]), at(0));
        assert!(
            matches!(step, Step::Finish(DeployStatus::Superseded, Some(_))),
            "{status:?}: {step:?}"
        );
    }
}

#[test]
fn nothing_happens_after_the_end() {
    for status in ALL.into_iter().filter(|status| status.is_final()) {
        assert_eq!(next(&deploy(status), &seen(9, &[]), at(999)), Step::Wait(None));
        assert!(ALL.iter().all(|to| !may_become(status, *to)), "{status:?} is final");
    }
}

#[test]
fn the_arrows_are_these() {
    let arrows: Vec<String> = ALL
        .iter()
        .flat_map(|from| {
            ALL.iter()
                .filter(|to| may_become(*from, **to))
                .map(move |to| (from, to))
        })
        .map(|(from, to)| format!("{} {}", from.as_str(), to.as_str()))
        .collect();
    let expected = [
        "ACCEPTED STAGING",
        "ACCEPTED FAILED",
        "ACCEPTED SUPERSEDED",
        "STAGING STARTING",
        "STAGING FAILED",
        "STAGING SUPERSEDED",
        "STARTING SWITCHING",
        "STARTING FAILED",
        "STARTING SUPERSEDED",
        "SWITCHING DRAINING_OLD",
        "SWITCHING FAILED",
        "SWITCHING SUPERSEDED",
        "DRAINING_OLD SUCCEEDED",
        "DRAINING_OLD FAILED",
    ];
    assert_eq!(arrows, expected);
}

#[test]
fn nothing_is_staged_before_its_images_are_here() {
    let accepted = deploy(DeployStatus::Accepted);
    let with = |images| Seen { images, ..seen(1, &[]) };
    assert_eq!(next(&accepted, &with(ImagesSeen::Here), at(0)), Step::Stage);
    assert_eq!(next(&accepted, &with(ImagesSeen::Elsewhere), at(0)), Step::Fetch);
    let staging = deploy(DeployStatus::Staging);
    // Control was started again.
    assert_eq!(next(&staging, &with(ImagesSeen::Elsewhere), at(0)), Step::Fetch);
    assert_eq!(next(&staging, &with(ImagesSeen::OnTheWay), at(9_999)), Step::Wait(None));
    let failed = next(&staging, &with(ImagesSeen::Unavailable("not found".into())), at(1));
    assert_eq!(
        failed,
        Step::Finish(DeployStatus::Failed, Some("image: not found".into()))
    );
    let overtaken = Seen {
        installed: 3,
        ..with(ImagesSeen::OnTheWay)
    };
    assert!(matches!(
        next(&staging, &overtaken, at(1)),
        Step::Finish(DeployStatus::Superseded, _)
    ));
}

#[test]
fn f9_an_image_that_the_node_cannot_get_is_tried_for_as_long_as_sandboxes_are() {
    let staging = deploy(DeployStatus::Staging);
    let faulty = |port_timeout| Seen {
        images: ImagesSeen::Faulty {
            told: "disk_full: pulling a".into(),
            since: at(100),
            retry_at: at(131),
        },
        port_timeout,
        ..seen(1, &[])
    };
    let step = |second| next(&staging, &faulty(Duration::ZERO), at(second));
    assert_eq!(step(130), Step::Wait(Some(at(131))));
    assert_eq!(step(131), Step::Fetch);
    assert_eq!(step(159), Step::Fetch);
    let Step::Finish(DeployStatus::Failed, Some(why)) = step(160) else {
        panic!("{:?}", step(160))
    };
    assert!(why.contains("60s (disk_full: pulling a)"), "{why}");
    let patient = faulty(Duration::from_secs(600));
    assert_eq!(next(&staging, &patient, at(160)), Step::Fetch);
}

#[test]
fn g5_a_release_command_comes_before_anything_of_the_version_is_started() {
    let step = |status, release| {
        let facts = Seen {
            release,
            ..seen(1, &[])
        };
        next(&deploy(status), &facts, at(1))
    };
    for status in [DeployStatus::Accepted, DeployStatus::Staging] {
        assert_eq!(step(status, ReleaseSeen::Due), Step::Release);
        assert_eq!(step(status, ReleaseSeen::Waits), Step::Wait(None), "another one's runs");
        assert_eq!(step(status, ReleaseSeen::Runs), Step::Wait(None));
        assert_eq!(step(status, ReleaseSeen::Succeeded), Step::Stage);
        let failed = step(status, ReleaseSeen::Failed("exited with status 3".into()));
        let Step::Finish(DeployStatus::Failed, Some(why)) = failed else {
            panic!("{failed:?}");
        };
        assert!(why.contains("exited with status 3"), "{why}");
    }
    let overtaken = Seen {
        release: ReleaseSeen::Runs,
        ..seen(3, &[])
    };
    let superseded = next(&deploy(DeployStatus::Staging), &overtaken, at(1));
    assert!(
        matches!(superseded, Step::Finish(DeployStatus::Superseded, _)),
        "{superseded:?}"
    );
    let without_images = Seen {
        images: ImagesSeen::OnTheWay,
        release: ReleaseSeen::Due,
        ..seen(1, &[])
    };
    assert_eq!(
        next(&deploy(DeployStatus::Staging), &without_images, at(1)),
        Step::Wait(None)
    );
}
