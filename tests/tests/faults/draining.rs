//! A drain of the whole node, and the way back, with a fault in it.

use miren_api::node::{NodePhase, NodeStatus};
use miren_blackbox::{Output, wait_until};
use miren_fault::{Kind, Point};

use crate::bed::{Bed, LIMIT};
use crate::walk::Operation;

/// The operation, and where.
pub struct Draining(Bed);

impl Operation for Draining {
    fn begin() -> Self {
        Self(Bed::new())
    }

    fn run(&mut self, point: Point, kind: Kind) -> String {
        let bed = &self.0;
        let before = bed.pids();
        let undoing = point == Point::DrainUndo;
        if !undoing {
            bed.arms.arm(point, kind);
        }
        let first = self.asked(&["node", "drain", "--allow-outage"], (!undoing).then_some((point, kind)));
        let mut said = format!("drain: exit code {}", first.code);
        let phase = self.over();
        if phase == NodePhase::Active {
            // What could not be kept has not begun, and whoever asked was told so.
            assert_ne!(first.code, 0, "it was said to be drained: {first}");
            let again = self.asked(&["node", "drain", "--allow-outage"], None);
            assert_eq!(again.code, 0, "{again}");
            said.push_str(", drained when asked again");
            assert_eq!(self.over(), NodePhase::Empty);
        }
        let counted = bed.node.census("hello-rust");
        assert!(counted.values().all(|count| *count == 0), "EMPTY, and there are {counted:?}");
        if undoing {
            bed.arms.arm(point, kind);
        }
        let back = self.asked(&["node", "undrain"], undoing.then_some((point, kind)));
        if back.code != 0 {
            said.push_str(&format!(", undrain: exit code {}", back.code));
            let again = self.asked(&["node", "undrain"], None);
            assert_eq!(again.code, 0, "{again}");
        }
        bed.settle();
        bed.arms.disarm(point);
        format!("{said}{}", bed.who_died(kind, before))
    }

    fn end(self) {
        self.0.end();
    }
}

impl Draining {
    /// Asks for it, which meets the fault, if there is one.
    #[track_caller]
    fn asked(&self, arguments: &[&str], fault: Option<(Point, Kind)>) -> Output {
        let bed = &self.0;
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| bed.node.cli.call(arguments));
            if let Some((point, kind)) = fault {
                bed.wait_hit(point);
                let status = bed.node.cli.call(&["node", "status"]);
                assert!(kind != Kind::Hang || status.code == 0, "{status}");
                if kind == Kind::Hang && point != Point::DrainLook {
                    bed.arms.disarm(point);
                }
            }
            asked.join().expect("who asks")
        })
    }

    /// The phase in which the node comes to rest.
    #[track_caller]
    fn over(&self) -> NodePhase {
        wait_until("the drain to be over, or not to have begun", LIMIT, || {
            let output = self.0.node.cli.call_json(&["node", "status"]);
            if output.code != 0 {
                return Err(output.to_string());
            }
            let status: NodeStatus = output.parsed();
            match status.phase {
                NodePhase::Empty | NodePhase::Active => Ok(status.phase),
                _ => Err(format!("{status:?}")),
            }
        })
    }
}
