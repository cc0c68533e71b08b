//! What the steps of a deploy are called on the one line that moves: as people say it, without ids and inner words.

use miren_api::deploy::{DeployStatus, DeployStep};

/// Begins a step that gets images; one of the folder's own Dockerfile begins with `./`.
const GETTING: &str = "getting image ";

/// What is being done in this step.
pub fn of(step: &DeployStep) -> String {
    let message = step.message.lines().next().unwrap_or_default();
    match step.status {
        DeployStatus::Accepted => "waiting for its turn".to_owned(),
        DeployStatus::Staging => match message.strip_prefix(GETTING) {
            Some(images) => images.split(", ").map(image).collect::<Vec<_>>().join(", "),
            None => message.to_owned(),
        },
        DeployStatus::Starting => "starting the new version".to_owned(),
        DeployStatus::Switching => "moving the traffic".to_owned(),
        DeployStatus::DrainingOld => "the version before finishes its requests".to_owned(),
        DeployStatus::Succeeded => "done".to_owned(),
        DeployStatus::Failed | DeployStatus::Superseded | DeployStatus::RolledBack => message.to_owned(),
    }
}

fn image(name: &str) -> String {
    match miren_api::app_file::dockerfile_of(name) {
        Some(dockerfile) => format!("building {dockerfile}"),
        None => format!("getting {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g16_steps_have_the_words_of_people() {
        let step = |status, message: &str| DeployStep {
            status,
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            message: message.into(),
        };
        for (status, message, words) in [
            (DeployStatus::Accepted, "accepted as number 7", "waiting for its turn"),
            (DeployStatus::Staging, "getting image nginx:1", "getting nginx:1"),
            (
                DeployStatus::Staging,
                "getting image ./Dockerfile, redis",
                "building Dockerfile, getting redis",
            ),
            (DeployStatus::Staging, "making the version", "making the version"),
            (
                DeployStatus::Starting,
                "version shop-v0123456789: 1 pools, 0 of them reused",
                "starting the new version",
            ),
            (
                DeployStatus::Failed,
                "exited with code 1\nlast words",
                "exited with code 1",
            ),
        ] {
            assert_eq!(of(&step(status, message)), words);
        }
    }
}
