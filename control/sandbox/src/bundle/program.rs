//! Decides what runs in a sandbox, with which environment, where and as whom.

use miren_api::app_file::command_line;
use miren_image::{Config, User};
use std::collections::BTreeMap;

/// Where programs are looked for unless the app or its image says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the app's own files are.
const APP: &str = "/app";

/// The first process of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: String,
    pub(crate) user: User,
}

impl Program {
    /// A command in the app's folder.
    pub(crate) fn of_folder(command: &str, env: &BTreeMap<String, String>) -> Self {
        Self {
            args: command_line(command),
            env: environment(APP, [], env),
            cwd: APP.to_owned(),
            user: User::default(),
        }
    }

    /// What an image runs in its folder `cwd`; the command and the environment of its service count more. None: neither names a
    /// command.
    pub(crate) fn of_image(
        image: &Config,
        user: User,
        command: &str,
        env: &BTreeMap<String, String>,
        cwd: String,
    ) -> Option<Self> {
        let args = match command {
            "" => [&image.entrypoint[..], &image.cmd].concat(),
            command => command_line(command),
        };
        (!args.is_empty()).then(|| Self {
            args,
            env: environment(&user.home, image.env.iter().cloned(), env),
            cwd,
            user,
        })
    }

    /// What of it no process can be given; an app's own was looked at before.
    pub(crate) fn unusable(&self) -> Option<&'static str> {
        let has_zero = |text: &String| text.contains('\0');
        if self.args.iter().any(has_zero) {
            Some("its ENTRYPOINT or CMD contains a zero byte")
        } else if self.args.first().is_none_or(String::is_empty) {
            Some("the first word of its ENTRYPOINT or CMD is empty")
        } else if self.env.iter().any(|(key, value)| has_zero(key) || has_zero(value)) {
            Some("its ENV contains a zero byte")
        } else {
            None
        }
    }
}

/// Later ones count more: defaults, the image's, the service's.
fn environment(
    home: &str,
    image: impl IntoIterator<Item = (String, String)>,
    service: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let defaults = [("PATH", PATH), ("HOME", home)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut all = BTreeMap::from(defaults);
    all.extend(image);
    all.extend(service.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Config {
        Config {
            entrypoint: vec!["/entry".into(), "-v".into()],
            cmd: vec!["serve".into()],
            env: vec![("PATH".into(), "/opt/bin".into()), ("MODE".into(), "image".into())],
            ..Config::default()
        }
    }

    fn env(of: &Program, key: &str) -> String {
        of.env.get(key).cloned().unwrap_or_default()
    }

    #[test]
    fn a_folder_has_defaults_which_the_app_may_replace() {
        let own = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
        let program = Program::of_folder("node server.js", &own);
        assert_eq!(program.args, ["node", "server.js"]);
        assert_eq!((&*program.cwd, &*env(&program, "HOME")), ("/app", "/tmp"));
        assert_eq!(env(&program, "PATH"), PATH);
    }

    #[test]
    fn an_image_says_what_runs_unless_the_service_does() {
        let own = BTreeMap::from([("MODE".to_owned(), "service".to_owned())]);
        let whole = Program::of_image(&image(), User::default(), "", &own, "/srv".into()).expect("a program");
        assert_eq!(whole.args, ["/entry", "-v", "serve"]);
        assert_eq!((&*whole.cwd, &*env(&whole, "HOME")), ("/srv", "/"));
        assert_eq!((&*env(&whole, "PATH"), &*env(&whole, "MODE")), ("/opt/bin", "service"));
        let someone = User {
            uid: 1000,
            home: "/home/someone".into(),
            ..User::default()
        };
        let other = Program::of_image(&image(), someone.clone(), "run it", &own, APP.into()).expect("a program");
        assert_eq!(other.args, ["run", "it"]);
        assert_eq!((&*other.cwd, &*env(&other, "HOME")), ("/app", "/home/someone"));
        assert_eq!(env(&other, "USER"), "", "as docker and containerd have it");
        let mut at_home = image();
        at_home
            .env
            .extend([("HOME", "/a"), ("HOME", "/b")].map(|(key, value)| (key.into(), value.into())));
        let other = Program::of_image(&at_home, someone, "", &own, APP.into()).expect("a program");
        assert_eq!(
            env(&other, "HOME"),
            "/b",
            "the image's own counts more, and the last one most"
        );
    }

    #[test]
    fn an_image_without_a_command_runs_nothing_by_itself() {
        let silent = Config::default();
        let none = BTreeMap::new();
        assert_eq!(Program::of_image(&silent, User::default(), "", &none, "/".into()), None);
        let told = Program::of_image(&silent, User::default(), "serve", &none, "/".into()).expect("a program");
        assert_eq!((&told.args[..], &*told.cwd), (&["serve".to_owned()][..], "/"));
    }

    #[test]
    fn g1_what_no_process_can_be_given_is_told() {
        let unusable = |change: fn(&mut Config)| {
            let mut image = image();
            change(&mut image);
            let program = Program::of_image(&image, User::default(), "", &BTreeMap::new(), "/".into());
            program.expect("a program").unusable()
        };
        assert_eq!(unusable(|_| {}), None);
        let told = "its ENTRYPOINT or CMD contains a zero byte";
        assert_eq!(unusable(|image| image.cmd.push("a\0b".into())), Some(told));
        let told = "the first word of its ENTRYPOINT or CMD is empty";
        assert_eq!(unusable(|image| image.entrypoint[0].clear()), Some(told));
        let told = "its ENV contains a zero byte";
        assert_eq!(unusable(|image| image.env.push(("A".into(), "\0".into()))), Some(told));
        assert_eq!(
            unusable(|image| image.env.push(("A\0".into(), String::new()))),
            Some(told)
        );
    }
}
