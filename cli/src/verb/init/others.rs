//! Decides how Ruby and PHP are started, and what serves a folder of pages.

use super::node;
use super::proposal::Proposal;
use super::sight::Sight;

/// Folders in which makers of pages put them; the folder itself comes last.
const PAGES: [&str; 5] = ["public", "dist", "build", "_site", "site"];

/// A Rack or Rails app.
pub fn ruby(sight: &Sight) -> Option<Proposal> {
    let gems = sight.text("Gemfile").unwrap_or_default();
    let has = |gem: &str| {
        let lines = gems.lines().map(str::trim).filter(|line| line.starts_with("gem"));
        lines.into_iter().any(|line| {
            [format!("\"{gem}\""), format!("'{gem}'")]
                .iter()
                .any(|name| line.contains(name))
        })
    };
    let (found, command) = if sight.has("bin/rails") && has("rails") {
        ("Gemfile with Rails", "bundle exec rails server -b 0.0.0.0 -p $PORT")
    } else if !sight.has("config.ru") {
        return None;
    } else if has("puma") {
        ("config.ru, served by Puma", "bundle exec puma -b tcp://0.0.0.0:$PORT")
    } else if gems.is_empty() {
        ("config.ru", "rackup -o 0.0.0.0 -p $PORT")
    } else {
        ("config.ru", "bundle exec rackup -o 0.0.0.0 -p $PORT")
    };
    let proposal = Proposal::web(found, command);
    Some(match gems.is_empty() {
        true => proposal,
        false => proposal
            .include("vendor/bundle")
            .next("bundle config set --local path vendor/bundle && bundle install    # unless the node has these gems"),
    })
}

/// PHP's own server, with `public/` as its root where there is one.
pub fn php(sight: &Sight) -> Option<Proposal> {
    let root = match (sight.has("public/index.php"), sight.has("index.php")) {
        (true, _) => "public",
        (false, true) => ".",
        (false, false) => return None,
    };
    let found = match sight.has("composer.json") {
        true => "composer.json",
        false if root == "." => "index.php",
        false => "public/index.php",
    };
    let proposal = Proposal::web(found, format!("php -S 0.0.0.0:$PORT -t {root}"));
    Some(match sight.has("composer.json") {
        true => proposal
            .include("vendor")
            .next("composer install --no-dev    # vendor is deployed with the folder"),
        false => proposal,
    })
}

/// Pages, and nothing that runs.
pub fn pages(sight: &Sight) -> Option<Proposal> {
    let below = PAGES
        .into_iter()
        .find(|folder| sight.has(&format!("{folder}/index.html")));
    let served = |folder: &str| format!("python3 -m http.server --bind 0.0.0.0 --directory {folder} $PORT");
    match (sight.has("index.html"), below) {
        // The sources of pages have one too, which is not meant to be served.
        (_, Some(folder @ ("dist" | "build" | "_site"))) => {
            Some(Proposal::web(format!("pages in {folder}/"), served(folder)).include(folder))
        }
        (false, Some(folder)) => Some(Proposal::web(format!("pages in {folder}/"), served(folder))),
        (true, None) if node::is_built(sight) => Some(
            Proposal::web("index.html and package.json with a build script", served("dist"))
                .include("dist")
                .next("npm install && npm run build    # correct the folder if it does not make dist/"),
        ),
        (true, _) => Some(
            Proposal::web("index.html: the folder is pages", served("."))
                .next("move the pages into public/ and run miren init --force, or everything in the folder can be read, .miren/app.toml too"),
        ),
        (false, None) => None,
    }
}
