//! The settings files a dev node's daemons read.

use super::layout::Layout;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;

/// Any free port: the daemon says which one it got.
const ANY_PORT: &str = "127.0.0.1:0";
/// Every name below it is this machine (RFC 6761 §6.3), so that each app has a URL by its name.
pub const LOCALHOST: &str = "localhost";
/// Somebody waits for the end of a dev node: sandboxes get what they would get anyway, a stuck clean-up gets 30 s more.
const NODE_TIMEOUT: &str = "40s";

#[derive(Serialize)]
struct ControlToml<'l> {
    name: &'l str,
    data_dir: String,
    run_dir: &'l Path,
    on_stop: &'static str,
    api: Api<'l>,
    fast_path: FastPathTable<'l>,
    network: NetworkTable<'l>,
    ingress: IngressTable,
    runtime: RuntimeTable<'l>,
    images: ImagesTable<'l>,
    drain: DrainTable,
    metrics: Listen,
}

#[derive(Serialize)]
struct Api<'l> {
    proxy_user: &'l str,
}

#[derive(Serialize)]
struct FastPathTable<'l> {
    mode: &'static str,
    pin_dir: &'l Path,
}

#[derive(Serialize)]
struct NetworkTable<'l> {
    bridge: &'l str,
    subnet: &'l str,
    ingress: [SocketAddr; 1],
}

#[derive(Serialize)]
struct IngressTable {
    cluster_host: &'static str,
    apps_domain: &'static str,
    scheme: &'static str,
    port: u16,
}

#[derive(Serialize)]
struct RuntimeTable<'l> {
    kind: &'static str,
    socket: &'l Path,
}

#[derive(Serialize)]
struct ImagesTable<'l> {
    registries: &'l [String],
}

#[derive(Serialize)]
struct DrainTable {
    node_timeout: &'static str,
}

#[derive(Serialize)]
struct Listen {
    listen: &'static str,
}

#[derive(Serialize)]
struct ProxyToml<'l> {
    control: String,
    data_dir: &'l Path,
    user: &'l str,
    slots: String,
    listen: Listeners,
    admin: Listen,
}

#[derive(Serialize)]
struct Listeners {
    http: Vec<SocketAddr>,
}

/// What control's file says besides the folders.
pub struct ControlSettings<'s> {
    pub proxy_user: &'s str,
    pub subnet: &'s str,
    pub fast_path: &'static str,
    pub runtime: &'static str,
    pub containerd_socket: &'s Path,
    /// Where the proxy takes requests.
    pub http: SocketAddr,
    /// Of this machine and its network, that deploys and Dockerfiles may name.
    pub registries: &'s [String],
}

/// `control.toml`.
pub fn control(layout: &Layout, settings: &ControlSettings<'_>) -> Result<String, toml::ser::Error> {
    toml::to_string(&ControlToml {
        name: &layout.name,
        data_dir: layout.dir.join("data").display().to_string(),
        run_dir: &layout.run_dir,
        on_stop: "remove",
        api: Api {
            proxy_user: settings.proxy_user,
        },
        fast_path: FastPathTable {
            mode: settings.fast_path,
            pin_dir: &layout.pin_dir,
        },
        network: NetworkTable {
            bridge: &layout.bridge,
            subnet: settings.subnet,
            ingress: [settings.http],
        },
        ingress: IngressTable {
            cluster_host: LOCALHOST,
            apps_domain: LOCALHOST,
            scheme: "http",
            port: settings.http.port(),
        },
        runtime: RuntimeTable {
            kind: settings.runtime,
            socket: settings.containerd_socket,
        },
        images: ImagesTable {
            registries: settings.registries,
        },
        drain: DrainTable {
            node_timeout: NODE_TIMEOUT,
        },
        metrics: Listen { listen: ANY_PORT },
    })
}

/// `proxy.toml`. Control decides at each start whether the kernel keeps the slot table, and removes the other one.
pub fn proxy(layout: &Layout, server: &str, user: &str, http: SocketAddr) -> Result<String, toml::ser::Error> {
    let (pins, file) = (layout.pin_dir.display(), layout.run_dir.join("slots"));
    let slots = format!("pinned:{pins},file:{}", file.display());
    toml::to_string(&ProxyToml {
        control: server.to_owned(),
        data_dir: &layout.proxy_dir,
        user,
        slots,
        listen: Listeners { http: vec![http] },
        admin: Listen { listen: ANY_PORT },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Value;

    fn layout() -> Layout {
        Layout::new("dev", Path::new("/srv/a \"quoted\" place"), true)
    }

    #[test]
    fn control_gets_everything_that_carries_the_name() {
        let settings = ControlSettings {
            proxy_user: "nobody",
            subnet: "10.64.16.0/20",
            fast_path: "auto",
            runtime: "containerd",
            containerd_socket: Path::new("/run/c.sock"),
            http: "127.0.0.1:8081".parse().unwrap(),
            registries: &["127.0.0.1:5000".into()],
        };
        let text = control(&layout(), &settings).unwrap();
        let read: Value = toml::from_str(&text).unwrap();
        assert_eq!(read["name"].as_str(), Some("dev"));
        assert_eq!(read["on_stop"].as_str(), Some("remove"));
        assert_eq!(read["runtime"]["socket"].as_str(), Some("/run/c.sock"));
        assert_eq!(read["images"]["registries"][0].as_str(), Some("127.0.0.1:5000"));
        assert_eq!(read["run_dir"].as_str(), Some("/srv/a \"quoted\" place/run"));
        assert_eq!(read["network"]["subnet"].as_str(), Some("10.64.16.0/20"));
        assert_eq!(read["fast_path"]["pin_dir"].as_str(), Some("/sys/fs/bpf/miren-dev"));
        assert_eq!(read["api"]["proxy_user"].as_str(), Some("nobody"));
        assert_eq!(read["ingress"]["cluster_host"].as_str(), Some("localhost"));
        assert_eq!(read["ingress"]["apps_domain"].as_str(), Some("localhost"));
        assert_eq!(read["ingress"]["scheme"].as_str(), Some("http"));
        assert_eq!(read["ingress"]["port"].as_integer(), Some(8081));
        assert_eq!(read["network"]["ingress"][0].as_str(), Some("127.0.0.1:8081"));
    }

    #[test]
    fn the_proxy_reads_the_table_that_control_writes() {
        let http = "127.0.0.1:8080".parse().unwrap();
        let text = proxy(&layout(), "unix:/x.sock", "nobody", http).unwrap();
        let read: Value = toml::from_str(&text).unwrap();
        let slots = "pinned:/sys/fs/bpf/miren-dev,file:/srv/a \"quoted\" place/run/slots";
        assert_eq!(read["slots"].as_str(), Some(slots), "whichever it is now");
    }
}
