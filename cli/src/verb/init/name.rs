//! Decides what an app is called that nobody has named: as its folder, as far as a name can be that.

use miren_api::AppName;
use miren_api::id::LABEL_MAX;
use std::path::Path;

/// Of a folder whose name has no letter or digit that a name could have.
const NAMELESS: &str = "app";

/// Letters in lower case; whatever stands between letters and digits is one `-`.
pub fn of_folder(root: &Path) -> AppName {
    let folder = root.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = folder.split(|c: char| !c.is_ascii_alphanumeric());
    let mut name = plain.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    name.truncate(LABEL_MAX);
    match AppName::parse(name.trim_end_matches('-')) {
        Ok(name) => name,
        Err(_) => AppName::from_text(NAMELESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g15_every_folder_makes_a_name_that_an_app_can_have() {
        let long = format!("{}-b", "a".repeat(62));
        for (folder, name) in [
            ("/srv/shop", "shop"),
            ("/srv/My Shop_v2.0", "my-shop-v2-0"),
            ("/srv/-shop-", "shop"),
            ("/srv/..shop", "shop"),
            ("/srv/Café ☕", "caf"),
            ("/srv/日本", "app"),
            ("/srv/İstanbul", "i-stanbul"),
            ("/srv/___", "app"),
            ("/", "app"),
            ("/srv/42", "42"),
            (&long, &"a".repeat(62)),
        ] {
            let found = of_folder(Path::new(folder));
            assert_eq!(found.as_str(), name, "{folder}");
            assert!(AppName::parse(found.as_str()).is_ok(), "{folder}");
        }
    }
}
