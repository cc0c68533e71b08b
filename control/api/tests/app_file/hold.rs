//! What holds for any text that is taken for an app's settings; shared with the fuzz target.

use miren_api::app_file::{self, APP_FILE, AppFile};
use miren_api::settings::{PROBLEMS_MAX, Problem};

/// Reads the two files: the result is an app that can run, or a bounded number of problems inside them.
pub fn hold(app_toml: &str, procfile: &str) {
    match app_file::parse(Some(app_toml), Some(procfile)) {
        Ok(app) => can_run(&app),
        Err(problems) => {
            assert!((1..=2 * (PROBLEMS_MAX + 1)).contains(&problems.0.len()), "{problems}");
            for problem in &problems.0 {
                let of_app = problem.file.ends_with(APP_FILE);
                lies_inside(problem, if of_app { app_toml } else { procfile });
            }
        }
    }
}

fn can_run(app: &AppFile) {
    assert!((1..=app_file::SERVICES_MAX).contains(&app.services.len()), "{app:?}");
    for (name, service) in &app.services {
        miren_api::id::check_label(name).unwrap_or_else(|why| panic!("service {name:?} {why}"));
        let command = app_file::command_line(&service.command);
        assert!(!command.is_empty() && !service.command.contains('\0'), "{service:?}");
        assert_ne!(service.port, Some(0), "{service:?}");
        for (key, value) in &service.env {
            assert!(app_file::check_variable(key).is_ok() && app_file::check_value(value).is_ok());
        }
    }
}

fn lies_inside(problem: &Problem, text: &str) {
    assert!(!problem.message.is_empty(), "{problem:?}");
    assert!(problem.to_string().chars().count() < 1_000, "{problem:?}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        problem.line <= lines.len().max(1),
        "{problem:?} of {} lines",
        lines.len()
    );
    let line = lines.get(problem.line.saturating_sub(1)).copied().unwrap_or_default();
    // One past the end is where something is missing; `lines` leaves out a carriage return.
    assert!(problem.column <= line.chars().count() + 2, "{problem:?} of {line:?}");
}
