//! Previews on a simulated machine: made beside what serves, opened by the first request, and gone when their time is over.

use crate::node::{fixed, web};
use crate::stage::{Stage, acquire, pass};
use miren_api::ErrorCode;
use miren_api::deploy::DeployRequest;
use miren_api::ephemeral::EphemeralRequest;
use miren_api::id::AppName;
use miren_control::app::Command;
use miren_control::record::DeployRecord;
use miren_control::store::Kind;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

const DAY: u64 = 86_400;

#[tokio::test(start_paused = true)]
async fn e1_e4_a_preview_is_no_deploy_and_changes_nothing_that_serves() {
    let stage = Stage::start().await;
    let active = stage.deploy("./one").await;
    let before = stage.bodies(&[Kind::Deploy, Kind::Active, Kind::Route]).await;
    let preview = stage.preview("feature/My_Branch", DAY, "./two").await;
    assert_eq!(preview.label.as_str(), "feature-my-branch");
    assert_ne!(preview.version, active);
    assert!(stage.preview_pools().is_empty(), "E11: before the first request");
    assert_eq!(stage.running(), ["./one"]);
    assert_eq!(stage.served_by(&preview.version).await, "./two");
    assert_eq!(stage.served_by(&active).await, "./one");
    assert_eq!(stage.bodies(&[Kind::Deploy, Kind::Active, Kind::Route]).await, before);
    let sandbox = stage.acquire(&preview.version).await.unwrap().leases.remove(0).sandbox;
    assert_eq!(
        stage.machine.environment(&sandbox)["MIREN_VERSION"],
        preview.version.as_str()
    );
}

#[tokio::test(start_paused = true)]
async fn e4_a_preview_is_made_while_a_deploy_is_under_way() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    stage.machine.hold("./two");
    let request = DeployRequest {
        artifact: Some(stage.artifact(&web("./two"))),
        ..DeployRequest::default()
    };
    stage.accepted(request).await;
    let preview = stage.preview("pr1", DAY, "./three").await;
    assert_eq!(stage.served_by(&preview.version).await, "./three");
    stage.machine.release("./two");
    pass(30).await;
    assert_eq!(
        stage.running(),
        ["./three", "./two"],
        "the deploy's end leaves the preview alone"
    );
    assert_eq!(stage.served_by(&preview.version).await, "./three");
}

#[tokio::test(start_paused = true)]
async fn e7_the_clone_of_the_active_version_leaves_it_byte_for_byte_as_it_was() {
    let stage = Stage::start().await;
    let request = DeployRequest {
        artifact: Some(stage.artifact(&fixed("./one", 1))),
        env: [("A".to_owned(), Some("1".to_owned()))].into(),
        ..DeployRequest::default()
    };
    let active = stage.deployed(request).await;
    let kinds = [Kind::Version, Kind::Pool, Kind::Active, Kind::Deploy, Kind::Sandbox];
    let before = stage.bodies(&kinds).await;
    let environment = |stage: &Stage| {
        let alive = stage.machine.alive();
        alive.iter().map(|id| stage.machine.environment(id)).collect::<Vec<_>>()
    };
    let ran_with = environment(&stage);
    let request = EphemeralRequest {
        version: Some(active.clone()),
        ..EphemeralRequest::default()
    };
    let clone = stage.order("x", 60, request).await.await.unwrap().unwrap().ephemeral;
    assert_eq!(clone.source.as_ref(), Some(&active));
    let lease = stage.acquire(&clone.version).await.unwrap().leases.remove(0);
    let own = stage.machine.environment(&lease.sandbox);
    assert_eq!(
        (own["A"].as_str(), own["MIREN_VERSION"].as_str()),
        ("1", clone.version.as_str())
    );
    assert_eq!(
        stage.machine.alive().len(),
        2,
        "E10: isolated although the spec is the same"
    );
    pass(3700 + 60).await;
    assert_eq!(stage.bodies(&kinds).await, before);
    assert_eq!(environment(&stage), ran_with);
}

#[tokio::test(start_paused = true)]
async fn e8_e9_from_its_last_instant_on_nothing_is_granted_and_then_nothing_is_left() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let preview = stage.preview("pr1", 60, "./two").await;
    assert_eq!(stage.served_by(&preview.version).await, "./two");
    tokio::time::sleep(Duration::from_millis(59_999)).await;
    assert!(stage.acquire(&preview.version).await.is_ok());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let over = stage.acquire(&preview.version).await.unwrap_err();
    assert_eq!(over.code, ErrorCode::NoSuchVersion);
    // A proxy that goes on with its lease holds it up for as long as the service allows.
    pass(60).await;
    assert!(stage.preview_pools().is_empty());
    assert_eq!(stage.running(), ["./one"]);
    assert_eq!(stage.versions().await.len(), 1);
    let told = stage.remembered("pr1").map(|route| route.expires_at);
    assert_eq!(
        told,
        Some(preview.expires_at),
        "who comes late is told when it was over"
    );
    pass(DAY).await;
    stage.control.apps.collect();
    pass(1).await;
    assert_eq!(stage.remembered("pr1"), None);
}

#[tokio::test(start_paused = true)]
async fn e9_a_shared_pool_goes_on_when_one_of_its_versions_is_collected() {
    let stage = Stage::start().await;
    let first = stage.served("pr1", DAY, "./two").await;
    let again = stage.try_preview("pr1", DAY, &web("./two")).await.unwrap();
    assert_eq!((again.reused, again.replaced.as_ref()), (true, Some(&first.version)));
    pass(60).await;
    let versions = stage.versions().await;
    let ids: Vec<_> = versions.iter().map(|version| &version.id).collect();
    assert_eq!(ids, [&again.ephemeral.version], "the other one is gone");
    let pools = stage.preview_pools();
    assert_eq!(pools[0].versions, std::slice::from_ref(&again.ephemeral.version));
    assert_eq!(stage.served_by(&again.ephemeral.version).await, "./two");
    assert_eq!(stage.machine.started().len(), 1, "with the sandbox there was");
}

#[tokio::test(start_paused = true)]
async fn e11_two_hundred_first_requests_make_one_pool_and_one_sandbox() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let preview = stage.preview("pr1", DAY, "./two").await;
    stage.machine.hold("./two");
    let asking = (0..200).map(|number| {
        let (control, version) = (Arc::clone(&stage.control), preview.version.clone());
        tokio::spawn(async move { acquire(&control, &format!("p{number}"), &version).await })
    });
    let asking: Vec<_> = asking.collect();
    pass(1).await;
    stage.machine.release("./two");
    // A sandbox takes ten requests at a time, so that ten of the proxies have a share; they give it back for the next.
    let mut answered = BTreeSet::new();
    for asked in asking {
        match asked.await.unwrap() {
            Ok(response) => answered.extend(response.leases.into_iter().map(|lease| lease.sandbox)),
            Err(error) => assert_eq!(error.code, ErrorCode::WaitTimeout, "{error}"),
        }
    }
    assert_eq!((stage.preview_pools().len(), answered.len()), (1, 1));
    assert_eq!(stage.machine.started().len(), 2, "one of the app, one of the preview");
}

#[tokio::test(start_paused = true)]
async fn e11_all_who_wait_see_why_it_did_not_start_and_the_next_one_works() {
    let stage = Stage::start().await;
    stage.machine.fail("./broken", "port: nothing listens");
    let preview = stage.preview("pr1", DAY, "./broken").await;
    let asking = (0..200).map(|number| {
        let (control, version) = (Arc::clone(&stage.control), preview.version.clone());
        tokio::spawn(async move { acquire(&control, &format!("p{number}"), &version).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        let error = asked.await.unwrap().unwrap_err();
        let told = matches!(error.code, ErrorCode::BootFailed | ErrorCode::Cooldown);
        assert!(told && error.message.contains("nothing listens"), "{error:?}");
    }
    assert_eq!((stage.preview_pools().len(), stage.machine.started().len()), (1, 1));
    let next = stage.preview("pr1", DAY, "./two").await;
    assert_eq!(stage.served_by(&next.version).await, "./two");
}

#[tokio::test(start_paused = true)]
async fn e3_a_pool_that_cannot_be_saved_is_an_error_that_says_so_and_no_pool() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let preview = stage.preview("pr1", DAY, "./two").await;
    stage.faults.fail(Kind::Pool);
    let error = stage.acquire(&preview.version).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(error.message.contains("could not be saved"), "{error}");
    assert!(stage.preview_pools().is_empty());
    stage.faults.fail(None);
    assert_eq!(stage.served_by(&preview.version).await, "./two");
    assert_eq!(stage.preview_pools().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn e15_a_preview_has_one_sandbox_unless_its_settings_say_more_and_none_when_idle() {
    let stage = Stage::start().await;
    let many = format!(
        "{}[ephemeral]\nmax_instances = 3\nscale_down_delay = \"1m\"\n",
        fixed("./many", 5)
    );
    let busy = |version: &miren_api::VersionId| miren_api::lease::AcquireRequest {
        proxy: "p1".into(),
        version: version.clone(),
        service: "web".into(),
        demand: miren_api::lease::Demand {
            in_flight: 0,
            queued: 5_000,
        },
        wait_ms: 1_000,
        dropped: Vec::new(),
    };
    let one = stage.preview("one", DAY, "./one").await;
    let three = stage.try_preview("three", DAY, &many).await.unwrap().ephemeral;
    for version in [&one.version, &three.version] {
        stage.control.leasing().acquire(busy(version)).await.unwrap();
    }
    pass(5).await;
    assert_eq!(stage.running(), ["./many", "./many", "./many", "./one"]);
    // Demand that nobody repeats is forgotten after half a minute, and a lease that nobody gives back holds a drain up.
    pass(30 + 60 + 33).await;
    assert_eq!(stage.running(), ["./one"]);
    pass(300).await;
    assert_eq!(stage.running(), Vec::<String>::new());
    assert_eq!(
        stage.served_by(&one.version).await,
        "./one",
        "the next request starts it again"
    );
}

#[tokio::test(start_paused = true)]
async fn e10_a_preview_that_is_deployed_is_another_version() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let preview = stage.served("pr1", DAY, "./two").await;
    let request = DeployRequest {
        version: Some(preview.version.clone()),
        ..DeployRequest::default()
    };
    let deployed = stage.deployed(request).await;
    assert_ne!(deployed, preview.version);
    assert_eq!(stage.running(), ["./two", "./two"]);
    pass(DAY + 60).await;
    let active = stage.control.world.routing.now();
    assert_eq!(active.active(&AppName::from_text("shop")), Some(&deployed));
    assert_eq!(
        stage.served_by(&deployed).await,
        "./two",
        "the preview's end is not its own"
    );
}

#[tokio::test(start_paused = true)]
async fn b6_a_preview_never_takes_a_disk_away() {
    let stage = Stage::start().await;
    let disk = "[[services.web.disks]]\nname = \"data\"\nmount_path = \"/data\"\nsize_gb = 1\n";
    let error = stage
        .try_preview("pr1", DAY, &format!("{}{disk}", web("./one")))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidConfig);
    assert!(error.message.contains("\"data\""), "{error}");
    assert_eq!(stage.label("pr1"), None);
}

#[tokio::test(start_paused = true)]
async fn previews_go_with_their_app() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    stage.served("pr1", DAY, "./two").await;
    let (reply, answer) = oneshot::channel();
    let delete = Command::Delete {
        keep_disks: false,
        reply,
    };
    stage.app.commands.send(delete).await.ok().unwrap();
    answer.await.unwrap().unwrap();
    pass(60).await;
    assert_eq!(stage.running(), Vec::<String>::new());
    let left = stage.bodies(&[Kind::Label, Kind::Version, Kind::Pool, Kind::App]).await;
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn versions_and_deploys_of_long_ago_go_but_none_that_is_needed() {
    let stage = Stage::start().await;
    let first = stage.deploy("./0").await;
    let mut last = first.clone();
    for number in 1..30 {
        last = stage.deploy(&format!("./{number}")).await;
    }
    let collect = async || {
        stage.control.apps.collect();
        pass(10).await;
        stage.versions().await.len()
    };
    assert_eq!(collect().await, 30, "they are young");
    let back = DeployRequest {
        version: Some(first.clone()),
        ..DeployRequest::default()
    };
    assert_eq!(stage.deployed(back).await, first);
    let preview = stage.preview("pr1", 40 * DAY, "./two").await;
    pass(30 * DAY).await;
    assert_eq!(
        collect().await,
        25 + 1 + 1,
        "the newest, the active one and the preview"
    );
    let kept: BTreeSet<_> = stage.versions().await.into_iter().map(|version| version.id).collect();
    assert!(kept.contains(&first) && kept.contains(&last) && kept.contains(&preview.version));
    let deploys = stage.bodies(&[Kind::Deploy]).await;
    assert_eq!(deploys.len(), 25);
    let newest: DeployRecord = serde_json::from_str(deploys.last().unwrap()).unwrap();
    assert!(newest.deploy.status.is_final());
}
