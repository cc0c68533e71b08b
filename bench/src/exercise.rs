//! Decides how something that operators do is measured: under load, again and again, everybody in every round.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Target};
use crate::peer::{Peer, wait};

mod report;

pub use report::{Report, Row, Times};

use report::Round;

/// Of each load, before it is looked at: connections are made.
const WARM_UP: Duration = Duration::from_millis(500);

/// What this build is called among the others.
pub const OURS: &str = "miren";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often everybody does it.
    pub rounds: u32,
    /// Short requests a second.
    pub rate: f64,
    /// WebSockets that are held meanwhile.
    pub websockets: usize,
    /// How long the load is looked at before, and how long it goes on afterwards.
    pub duration: Duration,
    /// Who else does it.
    pub against: Vec<Peer>,
}

/// Something that can be done under load, and again.
pub trait Exercise {
    /// Whose it is: `miren`, or a peer.
    fn who(&self) -> String;

    /// What is done, in a few words.
    fn what(&self) -> &'static str;

    fn target(&self) -> Target;

    /// Does it, and says when what happened, counted from its begin.
    ///
    /// # Errors
    /// When it could not be done, which is no failure of a request.
    fn perform(&mut self) -> anyhow::Result<Times>;

    /// Once all clients have left: makes ready for the next time, and says what happened meanwhile, counted from when they had.
    ///
    /// # Errors
    /// When it does not get ready.
    fn settle(&mut self) -> anyhow::Result<Times>;
}

pub type Exercises = Vec<Box<dyn Exercise>>;

/// What is done by whom, and how it is shown.
pub struct Comparison {
    /// What this build does. The folder is there for all of it.
    pub ours: fn(&Path) -> anyhow::Result<Exercises>,
    /// The same by a peer, which has the folder to itself.
    pub theirs: fn(Peer, &Path) -> anyhow::Result<Exercises>,
    pub moments: [&'static str; 2],
    pub notes: &'static str,
}

impl Comparison {
    /// Everybody does it who is installed.
    ///
    /// # Errors
    /// When a program of this build is missing, a node does not start, or an exercise cannot be done.
    pub fn run(&self, options: &Options) -> anyhow::Result<Report> {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        let mut exercises = (self.ours)(folder)?;
        let mut left_out = Vec::new();
        for peer in &options.against {
            match peer.program() {
                Ok(_) => exercises.extend((self.theirs)(*peer, &folder.join(peer.to_string()))?),
                Err(reason) => left_out.push(reason.to_string()),
            }
        }
        Ok(Report {
            rounds: options.rounds,
            rate: options.rate,
            rows: run(exercises, options)?,
            left_out,
            moments: self.moments,
            notes: self.notes,
        })
    }
}

/// Everybody does it in every round, each under a load of its own, one after the other.
///
/// # Errors
/// When an exercise could not be done, or when interrupted.
fn run(mut exercises: Exercises, options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut rounds: Vec<Vec<Round>> = exercises.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds as usize {
        // Everyone comes first in turn.
        for turn in 0..exercises.len() {
            let at = (turn + round) % exercises.len();
            rounds[at].push(once(&mut *exercises[at], options)?);
        }
    }
    let rows = exercises.iter().zip(rounds);
    Ok(rows
        .map(|(exercise, rounds)| Row::sum_up(exercise.who(), exercise.what(), rounds))
        .collect())
}

fn once(exercise: &mut dyn Exercise, options: &Options) -> anyhow::Result<Round> {
    let crowd = Crowd::start(&exercise.target(), options.rate, options.websockets)?;
    wait::pause(WARM_UP)?;
    let start = Instant::now();
    wait::pause(options.duration)?;
    let begun = Instant::now();
    let mut times = exercise.perform()?;
    wait::pause(options.duration)?;
    let end = Instant::now();
    let left = crowd.leave()?;
    times.extend(exercise.settle()?);
    Ok(Round {
        before: left.pace(start, begun),
        during: left.pace(begun, end),
        left,
        times,
    })
}
