//! A table and what deltas make of it answer as looking through all routes would.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What turns `before` into `after`, found the slow way.
fn delta(before: &RoutingSnapshot, after: &RoutingSnapshot) -> RoutingDelta {
    let is_new = |rule: &&RouteRule| !before.routes.contains(rule);
    let has_gone = |rule: &&RouteRule| !after.routes.iter().any(|new| new.host == rule.host);
    let changed = after
        .apps
        .iter()
        .filter(|(app, new)| before.apps.get(*app) != Some(*new));
    RoutingDelta {
        from: before.generation,
        from_lineage: before.lineage.clone(),
        generation: after.generation,
        lineage: after.lineage.clone(),
        routes: after.routes.iter().filter(is_new).cloned().collect(),
        removed_routes: before
            .routes
            .iter()
            .filter(has_gone)
            .map(|rule| rule.host.clone())
            .collect(),
        default: after.default.clone(),
        cluster_host: after.cluster_host.clone(),
        apps: changed.map(|(app, new)| (app.clone(), new.clone())).collect(),
        removed_apps: before
            .apps
            .keys()
            .filter(|app| !after.apps.contains_key(*app))
            .cloned()
            .collect(),
    }
}

/// Any service of `app`, with or without settings of the route's own.
fn some_destination(app: &str, random: &mut StdRng) -> RouteDestination {
    let mut own = |chance| random.random_bool(chance).then(|| random.random_range(1..4));
    let (timeout_ms, retry_after) = (own(0.5), own(0.2));
    RouteDestination {
        service: ["web", "admin"][random.random_range(0..2)].into(),
        timeout_ms,
        maintenance: retry_after.map(|retry_after| Maintenance { retry_after }),
        ..to(app)
    }
}

/// Any of a few routes, apps and labels.
fn anything(generation: u64, random: &mut StdRng) -> RoutingSnapshot {
    let hosts = [
        "*.example.com",
        "*.a.example.com",
        "a.example.com",
        "b.example.com",
        "pr1.b.example.com",
        "*.edge.net",
        "app-1.edge.net",
    ];
    let app = |random: &mut StdRng| format!("app-{}", random.random_range(0..4));
    let mut snapshot = RoutingSnapshot {
        generation,
        lineage: ["one", "another"][random.random_range(0..2)].into(),
        ..RoutingSnapshot::default()
    };
    for host in hosts {
        if random.random_bool(0.5) {
            let to = some_destination(&app(random), random);
            snapshot.routes.push(RouteRule { host: host.into(), to });
        }
    }
    snapshot.routes.sort_by(|a, b| a.host.cmp(&b.host));
    snapshot.default = random.random_bool(0.5).then(|| some_destination(&app(random), random));
    snapshot.cluster_host = random.random_bool(0.5).then(|| "edge.net".to_owned());
    for _ in 0..3 {
        let (app, version) = (app(random), random.random_range(0..3));
        let labels = (0..random.random_range(0..4)).map(|number| {
            let name = ["pr1", "pr2"][random.random_range(0..2)];
            label(
                name,
                &format!("{app}-{name}-{version}-{number}"),
                random.random_range(1..6),
            )
        });
        let ephemeral = labels.collect();
        let active = random.random_bool(0.8);
        let routing = AppRouting {
            active: active.then(|| VersionId::from_text(format!("{app}-v{version}"))),
            ephemeral,
        };
        snapshot.apps.insert(AppName::from_text(app), routing);
    }
    snapshot
}

/// A host of the labels that these routes know, and one more.
fn some_host(random: &mut StdRng) -> String {
    let bases = ["example.com", "edge.net", "elsewhere.org"];
    let labels = ["a", "b", "pr1", "PR2", "app-1", "app-2", "other"];
    let mut host = bases[random.random_range(0..bases.len())].to_owned();
    for _ in 0..random.random_range(0..4) {
        host = format!("{}.{host}", labels[random.random_range(0..labels.len())]);
    }
    host + ["", ".", ":8080", ".:80"][random.random_range(0..4)]
}

/// The version, the service, and the route's own timeout.
type Answer = (String, String, Option<Duration>);

fn answer(version: &VersionId, to: &RouteDestination) -> Answer {
    let timeout = to.timeout_ms.map(Duration::from_millis);
    (version.to_string(), to.service.clone(), timeout)
}

/// What the decision says (ADR 0015), by looking through all there is.
fn by_looking_through(snapshot: &RoutingSnapshot, host: &str, now: Timestamp) -> Result<Answer, Miss> {
    let host = host::normalise(host);
    let route = |host: &str| -> Option<&RouteDestination> {
        let exact = snapshot.routes.iter().find(|rule| rule.host == host);
        let above = host.split_once('.').map(|(_, above)| format!("*.{above}"));
        let wildcard = || snapshot.routes.iter().find(|rule| Some(&rule.host) == above.as_ref());
        exact.or_else(wildcard).map(|rule| &rule.to)
    };
    let active = |to: &RouteDestination| {
        if let Some(maintenance) = to.maintenance {
            return Err(Miss::Maintenance(maintenance.retry_after));
        }
        let version = snapshot.apps.get(&to.app).and_then(|app| app.active.as_ref());
        version.map(|version| answer(version, to)).ok_or(Miss::Version)
    };
    let labelled = |to: &RouteDestination, label: &str| {
        let rows = snapshot.apps.get(&to.app).map_or(&[][..], |app| &app.ephemeral).iter();
        let last = rows.filter(|row| row.label == label).max_by_key(|row| row.expires_at);
        let last = last.ok_or(Miss::Label)?;
        if now < last.expires_at {
            Ok(answer(&last.version, to))
        } else {
            Err(Miss::Expired(last.expires_at))
        }
    };
    if let Some(to) = route(&host) {
        return active(to);
    }
    if let Some((label, rest)) = host.split_once('.') {
        if let Some(to) = route(rest) {
            return labelled(to, label);
        }
        let own = snapshot.cluster_host.as_deref();
        if let (Some(to), true) = (&snapshot.default, own == Some(rest)) {
            let found = labelled(to, label);
            if found != Err(Miss::Label) {
                return found;
            }
        }
        if let Some((app, above)) = rest.split_once('.') {
            let has_labels = |app: &AppRouting| !app.ephemeral.is_empty();
            let named = snapshot.apps.get(&AppName::from_text(app));
            if own == Some(above) && named.is_some_and(has_labels) {
                return labelled(&to(app), label);
            }
        }
    }
    snapshot.default.as_ref().map_or(Err(Miss::Host), active)
}

fn assert_same((table, snapshot): (&RouteTable, &RoutingSnapshot), host: &str, now: Timestamp, seed: u64) {
    let found = table.resolve(host, now).map(|found| {
        let Found { target, timeout } = found;
        (target.version.to_string(), target.service.clone(), timeout)
    });
    let expected = by_looking_through(snapshot, host, now);
    assert_eq!(found, expected, "seed {seed}: {host} in {snapshot:#?}");
}

#[test]
fn e2_a_table_answers_as_looking_through_all_of_it_would_also_after_deltas() {
    for seed in 0..300 {
        let random = &mut StdRng::seed_from_u64(seed);
        let mut before = anything(1, random);
        let mut table = RouteTable::new(&before);
        for generation in 2..12 {
            let after = anything(generation, random);
            let last = std::mem::take(&mut table);
            table = last.after(&delta(&before, &after)).unwrap();
            let whole = RouteTable::new(&after);
            assert_eq!(
                (table.snapshot(), whole.snapshot()),
                (after.clone(), after.clone()),
                "seed {seed}"
            );
            for _ in 0..40 {
                let (host, now) = (some_host(random), at(random.random_range(0..7)));
                assert_same((&table, &after), &host, now, seed);
                assert_same((&whole, &after), &host, now, seed);
            }
            knows_its_targets(&table, &last, &whole);
            before = after;
        }
    }
}

/// The three accounts of what requests can reach agree.
fn knows_its_targets(table: &RouteTable, last: &RouteTable, whole: &RouteTable) {
    for target in last.targets().chain(whole.targets()) {
        let is_routed = whole.targets().any(|routed| routed == target);
        assert_eq!(table.has(target), is_routed, "{target:?}");
        assert_eq!(table.leads_to(&target.app), whole.leads_to(&target.app), "{target:?}");
        assert!(!is_routed || table.leads_to(&target.app), "{target:?}");
    }
}

#[test]
fn a_delta_that_begins_elsewhere_does_not_fit() {
    let before = snapshot();
    let mut after = before.clone();
    after.generation += 2;
    let mut delta = delta(&before, &after);
    assert!(RouteTable::new(&before).after(&delta).is_some());
    delta.from += 1;
    assert!(RouteTable::new(&before).after(&delta).is_none());
}
