//! Sandboxes that misbehave: that end as if somebody had killed them, flood their logs, or write to whoever reads them.

use std::fs;
use std::time::Duration;

use miren_api::resource::{PoolState, SandboxState};
use miren_blackbox::{AppFolder, Node, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// Does what its path says: `/exit/CODE`, `/flood/LINES` beside what it serves, `/say` with what would take a terminal over.
const SERVER: &str = r#"
import http.server, os, sys, threading

def flood(lines):
    for number in range(lines):
        sys.stdout.write("line %d %s\n" % (number, "x" * 200))
    sys.stdout.flush()

class Hostile(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        verb, _, argument = self.path[1:].partition("/")
        if verb == "exit":
            os._exit(int(argument))
        if verb == "flood":
            threading.Thread(target=flood, args=[int(argument)]).start()
        if verb == "say":
            print("\x1b[2J\x1b]0;owned\x07\x9b1A\rS all is well \u202e", flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass

sys.stdout.reconfigure(encoding="utf-8")
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Hostile).serve_forever()
"#;

fn start(name: &str, sandboxes: u32) -> (Node, String) {
    let node = Node::start();
    let app = AppFolder::empty(name).command("python3 server.py").fixed(sandboxes);
    fs::write(app.path().join("server.py"), SERVER).unwrap();
    let host = format!("{name}.example.com");
    node.deploy_at(&app, &host);
    (node, host)
}

#[test]
fn f7_an_app_that_exits_as_if_it_was_killed_is_backed_off() {
    let (node, host) = start("liar", 1);
    let mut ended = 0;
    let pool = wait_until("the pool backs off", SOON, || {
        let pool = node.pools("liar").remove(0);
        if pool.state == PoolState::Cooldown {
            return Ok(pool);
        }
        if node.running("liar").len() == 1 {
            // It has no time to answer.
            let _ = miren_blackbox::http::get(node.http, &host, "/exit/143");
            ended += 1;
        }
        Err(format!("{pool:?}"))
    });
    assert_eq!(pool.crash_count, 1, "{pool:?}");
    let dead = node.sandboxes("liar");
    let dead = dead.iter().filter(|sandbox| sandbox.state == SandboxState::Dead);
    let reasons: Vec<_> = dead.filter_map(|sandbox| sandbox.reason.clone()).collect();
    assert_eq!(reasons, ["exited with status 143"; 3], "{ended} were told to");
    node.stop();
}

#[test]
fn f4_a_flood_is_dropped_and_the_app_serves_on() {
    let (node, host) = start("flood", 1);
    // Ten times the burst.
    assert_eq!(node.get(&host, "/flood/400000").text(), "ok");
    let said = wait_until("what was dropped is said", SOON, || {
        assert_eq!(node.get(&host, "/").text(), "ok", "it serves on");
        let log = node.cli.call(&["logs", "-a", "flood"]).stdout;
        match log
            .lines()
            .find(|line| line.contains(" dropped: over the limit of 1MiB"))
        {
            Some(line) => Ok(line.to_owned()),
            None => Err(log.lines().last().unwrap_or_default().to_owned()),
        }
    });
    assert!(said.starts_with("SYS "), "{said}");
    let folder = node.folder().join("data/logs/flood/web");
    let kept = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let kept: u64 = kept.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(kept < 32 << 20, "{kept} bytes of a flood of 84 MB");
    node.stop();
}

#[test]
fn f5_what_an_app_writes_to_a_terminal_is_spelt_out() {
    let (node, host) = start("terminal", 1);
    assert_eq!(node.get(&host, "/say").text(), "ok");
    let words = wait_until("the line", SOON, || {
        let log = node.cli.call(&["logs", "-a", "terminal"]).stdout;
        if log.contains("owned") { Ok(log) } else { Err(log) }
    });
    let spelt = r"\x1b[2J\x1b]0;owned\x07\u{9b}1A\rS all is well \u{202e}";
    assert!(words.contains(spelt), "{words:?}");
    let json = node.cli.call(&["logs", "-a", "terminal", "--format", "json"]).stdout;
    for (form, text) in [("table", &words), ("json", &json)] {
        let obeyed = text.find(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}');
        assert_eq!(obeyed.map(|at| &text[at..]), None, "{form}");
    }
    assert!(json.contains(r"\u001b[2J") && json.contains(r"\u009b1A"), "{json:?}");
    node.stop();
}
