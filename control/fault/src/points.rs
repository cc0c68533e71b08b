//! Decides which points there are, what each is called, and what can happen at it: the registry that the walk goes through.

macro_rules! points {
    ($($point:ident $name:literal $kinds:ident,)*) => {
        /// A step that can be had fail. What each stands before is said where it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $($point,)*
        }

        #[cfg(feature = "faults")]
        impl Point {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// `what.step`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }

            /// What can happen at it.
            pub const fn kinds(self) -> &'static [crate::Kind] {
                match self {
                    $(Self::$point => $kinds,)*
                }
            }
        }
    };
}

#[cfg(feature = "faults")]
use crate::Kind::{Error, Hang, Kill, Panic};

/// A step that is waited for, or that holds up a thread.
#[cfg(feature = "faults")]
const STEP: &[crate::Kind] = &[Error, Hang, Panic, Kill];
/// One that can fail, and that nothing outside can hold up.
#[cfg(feature = "faults")]
const QUICK: &[crate::Kind] = &[Error, Panic, Kill];
/// One whose failure is what it waits for.
#[cfg(feature = "faults")]
const WAIT: &[crate::Kind] = &[Hang, Panic, Kill];
/// Between two steps.
#[cfg(feature = "faults")]
const BETWEEN: &[crate::Kind] = &[Panic, Kill];

points! {
    // One sandbox, from its order to RUNNING.
    CreateConfig "create.config" QUICK,
    CreatePlace "create.place" QUICK,
    CreateVolume "create.volume" QUICK,
    CreateNamespace "create.namespace" STEP,
    CreateSnapshot "create.snapshot" STEP,
    CreateImage "create.image" STEP,
    CreateSpec "create.spec" STEP,
    CreateNetwork "create.network" STEP,
    CreateRuntime "create.runtime" STEP,
    CreateRegister "create.register" QUICK,
    CreateStart "create.start" STEP,
    CreatePort "create.port" WAIT,
    CreateRunning "create.running" BETWEEN,
    CreateTold "create.told" BETWEEN,
    // The same, from RUNNING to nothing.
    StopDraining "stop.draining" BETWEEN,
    StopStopping "stop.stopping" BETWEEN,
    StopTerm "stop.term" QUICK,
    StopWait "stop.wait" BETWEEN,
    StopLastWords "stop.last_words" WAIT,
    StopTold "stop.told" BETWEEN,
    CleanKill "clean.kill" STEP,
    CleanHelper "clean.helper" STEP,
    CleanNetwork "clean.network" STEP,
    CleanCgroup "clean.cgroup" STEP,
    CleanWriter "clean.writer" STEP,
    CleanVolumes "clean.volumes" STEP,
    CleanFiles "clean.files" STEP,
    // A deploy: before each step, before what it changed is saved, and after that.
    DeployAccept "deploy.accept" QUICK,
    DeployAccepted "deploy.accepted" BETWEEN,
    DeployStage "deploy.stage" BETWEEN,
    DeployStageSave "deploy.stage.save" BETWEEN,
    DeployStageSaved "deploy.stage.saved" BETWEEN,
    DeploySwitching "deploy.switching" BETWEEN,
    DeploySwitchingSave "deploy.switching.save" BETWEEN,
    DeploySwitchingSaved "deploy.switching.saved" BETWEEN,
    DeploySwitch "deploy.switch" BETWEEN,
    DeploySwitchSave "deploy.switch.save" BETWEEN,
    DeploySwitchSaved "deploy.switch.saved" BETWEEN,
    DeployRetire "deploy.retire" BETWEEN,
    DeployRetireSave "deploy.retire.save" BETWEEN,
    DeployRetireSaved "deploy.retire.saved" BETWEEN,
    DeployFinish "deploy.finish" BETWEEN,
    DeployFinishSave "deploy.finish.save" BETWEEN,
    DeployFinishSaved "deploy.finish.saved" BETWEEN,
    RoutePublish "route.publish" BETWEEN,
    RouteAcknowledge "route.acknowledge" BETWEEN,
    // A transaction of the store.
    StoreBegin "store.begin" STEP,
    StoreCommit "store.commit" STEP,
    StoreCommitted "store.committed" STEP,
    // What the proxy keeps on disk.
    FileWrite "file.write" STEP,
    FileSync "file.sync" STEP,
    FileRename "file.rename" STEP,
    FileFolder "file.folder" STEP,
    JournalWrite "journal.write" STEP,
    JournalSync "journal.sync" STEP,
    // The node's drain.
    DrainKeep "drain.keep" STEP,
    DrainKept "drain.kept" BETWEEN,
    DrainClosed "drain.closed" BETWEEN,
    DrainStarts "drain.starts" BETWEEN,
    DrainStartsKeep "drain.starts.keep" STEP,
    DrainSandboxes "drain.sandboxes" BETWEEN,
    DrainForced "drain.forced" BETWEEN,
    DrainLook "drain.look" WAIT,
    DrainEmpty "drain.empty" BETWEEN,
    DrainUndo "drain.undo" STEP,
    // The proxy that gives its sockets.
    GiveAsked "give.asked" STEP,
    GiveSockets "give.sockets" STEP,
    GiveOffer "give.offer" STEP,
    GiveTaken "give.taken" BETWEEN,
    GiveLeft "give.left" BETWEEN,
    // The one that takes them.
    TakeSlots "take.slots" STEP,
    TakeAsk "take.ask" STEP,
    TakeSettle "take.settle" STEP,
    TakeRouting "take.routing" STEP,
    TakeProve "take.prove" STEP,
    TakeListen "take.listen" STEP,
    TakeSay "take.say" STEP,
    TakeHear "take.hear" QUICK,
    TakeFolder "take.folder" BETWEEN,
}
