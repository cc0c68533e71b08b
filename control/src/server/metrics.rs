//! Decides how metrics are served: on an address of their own, for anybody who can reach it.

use super::scrapes;
use crate::control::Control;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves `/metrics` until the daemon ends.
pub async fn serve(control: Arc<Control>, listener: TcpListener) {
    let ending = control.ending.clone();
    let pages = Router::new().route("/metrics", get(text)).with_state(control);
    scrapes::serve(listener, pages, ending).await;
}

async fn text(State(control): State<Arc<Control>>) -> impl IntoResponse {
    measure(&control);
    let text = control.world.metrics.text();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// Takes the numbers that are read rather than counted.
fn measure(control: &Control) {
    let world = &control.world;
    let metrics = &world.metrics;
    let views = control.apps.views();
    let mut by_state: HashMap<&'static str, i64> = HashMap::new();
    for sandbox in views.iter().flat_map(|view| view.sandboxes.iter()) {
        *by_state.entry(sandbox.state.as_str()).or_default() += 1;
    }
    for state in ["PENDING", "RUNNING", "DRAINING", "STOPPING", "STOPPED", "DEAD"] {
        let count = by_state.get(state).copied().unwrap_or(0);
        metrics.sandboxes.with_label_values(&[state]).set(count);
    }
    metrics.apps.set(number(views.len()));
    metrics
        .pools
        .set(number(views.iter().map(|view| view.pools.len()).sum::<usize>()));
    let routed = world.routing.now();
    let now = world.clock.wall();
    let labels = views.iter().flat_map(|view| routed.table.labels_of(&view.name));
    let live = labels.filter(|route| now < route.expires_at);
    metrics.previews_live.set(number(live.count()));
    let (leases, proxies) = world.desk.counts();
    metrics.leases.set(number(leases));
    metrics.proxies.set(number(proxies));
    metrics.generation.set(number(world.routing.now().generation));
    let fast_path = world.executor.fast_path();
    metrics.slots_used.set(i64::from(fast_path.slots.used));
    let by = |who| metrics.transitions.with_label_values(&[who]);
    by("kernel").set(number(fast_path.transitions.by_kernel));
    by("control").set(number(fast_path.transitions.by_control));
    metrics.refused_connects.set(number(fast_path.refused_connects));
    metrics.reset_packets.set(number(fast_path.reset_packets));
    metrics.dropped_events.set(number(fast_path.dropped_events));
    let dropped = world.executor.dropped_lines();
    metrics.dropped_lines.set(number(dropped.lines));
    metrics.dropped_bytes.set(number(dropped.bytes));
    metrics.node.set(&control.node.status());
    measure_network(control);
    metrics.own.read();
}

fn measure_network(control: &Control) {
    let network = &control.world.metrics.network;
    let rules = control.world.executor.network_rules();
    network.rules.set(i64::from(rules.applied));
    network.rules_restored.set(number(rules.restored));
    network.conntrack_entries.set(tracked("nf_conntrack_count"));
    network.conntrack_entries_max.set(tracked("nf_conntrack_max"));
}

/// A number of the kernel's connection tracking; 0 while it does not track.
fn tracked(name: &str) -> i64 {
    let read = std::fs::read_to_string(Path::new("/proc/sys/net/netfilter").join(name));
    read.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
