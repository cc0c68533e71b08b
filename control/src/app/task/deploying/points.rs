//! Decides where tests can end a deploy: before each of its steps, before what that changed is saved, and after.

use crate::app::deploy::Step;
use miren_api::deploy::DeployStatus;
use miren_fault::Point;

/// Those of one step.
pub(super) struct Points(Option<[Point; 3]>);

/// None where it only waits, or may do so again and again.
pub(super) fn of(step: &Step, status: DeployStatus) -> Points {
    Points(match step {
        Step::Wait(_) | Step::Fetch | Step::Release => None,
        Step::Stage => Some([Point::DeployStage, Point::DeployStageSave, Point::DeployStageSaved]),
        Step::Switch if status == DeployStatus::Starting => Some([
            Point::DeploySwitching,
            Point::DeploySwitchingSave,
            Point::DeploySwitchingSaved,
        ]),
        Step::Switch => Some([Point::DeploySwitch, Point::DeploySwitchSave, Point::DeploySwitchSaved]),
        Step::Retire => Some([Point::DeployRetire, Point::DeployRetireSave, Point::DeployRetireSaved]),
        Step::Finish(..) => Some([Point::DeployFinish, Point::DeployFinishSave, Point::DeployFinishSaved]),
    })
}

impl Points {
    pub(super) fn before(&self) {
        self.pass(0);
    }

    pub(super) fn save(&self) {
        self.pass(1);
    }

    pub(super) fn saved(&self) {
        self.pass(2);
    }

    fn pass(&self, which: usize) {
        if let Some(points) = &self.0 {
            miren_fault::pass(points[which]);
        }
    }
}
