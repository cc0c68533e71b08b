//! What of both daemons' settings decides what is looked at, read as far as they can be read: whether they are right, the daemons say.

use crate::verb::upgrade::check::{CONTROL_CONFIG, PROXY_CONFIG};
use crate::verb::upgrade::process::{self, Role};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where both daemons keep things, and what they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub control: PathBuf,
    pub proxy: PathBuf,
    pub data_dir: PathBuf,
    /// `fast_path.mode`.
    pub fast_path: String,
    /// Where containerd is, if sandboxes are made by it.
    pub containerd: Option<PathBuf>,
    /// Where builders are looked for first.
    pub build_programs: Option<PathBuf>,
    /// Where the proxy listens.
    pub listen: Vec<SocketAddr>,
}

impl Settings {
    /// Those that are named, else those of the control that listens at `socket`, else where packages put them.
    pub fn find(control: Option<PathBuf>, proxy: Option<PathBuf>, socket: &Path) -> Self {
        let running = || {
            let listener = process::control_at(socket)?;
            Role::of(listener.pid, Path::new(CONTROL_CONFIG)).map(|role| role.config)
        };
        let control = control.or_else(running).unwrap_or_else(|| CONTROL_CONFIG.into());
        let proxy = proxy.unwrap_or_else(|| {
            let name = Path::new(PROXY_CONFIG).file_name().unwrap_or_default();
            control.with_file_name(name)
        });
        let (of_control, of_proxy) = (table(&control), table(&proxy));
        Self::read(control, proxy, (&of_control, &of_proxy))
    }

    fn read(control: PathBuf, proxy: PathBuf, (of_control, of_proxy): (&Table, &Table)) -> Self {
        let text = |path: &[&str]| lookup(of_control, path).and_then(Value::as_str).map(str::to_owned);
        let is_containerd = text(&["runtime", "kind"]).as_deref() == Some("containerd");
        let socket = text(&["runtime", "socket"]).unwrap_or_else(|| "/run/containerd/containerd.sock".into());
        let listen = lookup(of_proxy, &["listen", "http"]).and_then(Value::as_array);
        let usual = || vec![SocketAddr::from(([0, 0, 0, 0], 80))];
        let address = |value: &Value| value.as_str()?.parse().ok();
        Self {
            control,
            proxy,
            data_dir: text(&["data_dir"]).unwrap_or_else(|| "/var/lib/miren".into()).into(),
            fast_path: text(&["fast_path", "mode"]).unwrap_or_else(|| "auto".into()),
            containerd: is_containerd.then(|| socket.into()),
            build_programs: text(&["images", "build_programs"]).map(PathBuf::from),
            listen: listen.map_or_else(usual, |list| list.iter().filter_map(address).collect()),
        }
    }
}

/// Empty where there is no file, or one that cannot be read.
fn table(path: &Path) -> Table {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.parse().unwrap_or_default()
}

fn lookup<'t>(table: &'t Table, path: &[&str]) -> Option<&'t Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    match rest {
        [] => Some(value),
        rest => lookup(value.as_table()?, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(control: &str, proxy: &str) -> Settings {
        let tables = (control.parse().unwrap(), proxy.parse().unwrap());
        Settings::read("c".into(), "p".into(), (&tables.0, &tables.1))
    }

    #[test]
    fn g18_defaults_fill_what_the_files_lack_and_what_is_none_of_ours() {
        let usual = read("", "");
        assert_eq!(usual.data_dir, Path::new("/var/lib/miren"));
        assert_eq!(
            (usual.fast_path.as_str(), usual.containerd, usual.build_programs),
            ("auto", None, None)
        );
        assert_eq!(usual.listen, ["0.0.0.0:80".parse().unwrap()]);
        let own = read(
            "data_dir = \"/srv\"\n[fast_path]\nmode = \"kernel\"\n[runtime]\nkind = \"containerd\"\n[images]\nbuild_programs = \"/opt\"\n",
            "listen = {http = [\"127.0.0.1:8080\", 3]}\n",
        );
        assert_eq!(own.data_dir, Path::new("/srv"));
        assert_eq!(
            own.containerd.as_deref(),
            Some(Path::new("/run/containerd/containerd.sock"))
        );
        assert_eq!(own.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(read("data_dir = 3\nruntime = 4\n", "listen = 1\n").listen, usual.listen);
    }
}
