//! How the generated reference looks: settings and metrics as tables of Markdown.

use crate::settings::KeyDoc;

/// One row for each key.
pub fn settings(keys: &[KeyDoc]) -> String {
    let mut text = String::from("| key | kind | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let default = if key.default.is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", cell(&key.default))
        };
        text.push_str(&format!(
            "| `{}` | {} | {default} | {} |\n",
            key.path,
            key.kind,
            cell(key.doc)
        ));
    }
    text
}

/// One row for each metric, given by name and help text.
pub fn metrics(metrics: &[(String, String)]) -> String {
    let mut text = String::from("| metric | meaning |\n|---|---|\n");
    for (name, help) in metrics {
        text.push_str(&format!("| `{name}` | {} |\n", cell(help)));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_columns_whatever_the_text_says() {
        let key = KeyDoc {
            shape: crate::settings::Shape::Text,
            path: "a.b".into(),
            kind: "string",
            default: "\"x|y\"".into(),
            doc: "One | two.",
        };
        assert!(settings(&[key]).ends_with("| `a.b` | string | `\"x\\|y\"` | One \\| two. |\n"));
        assert!(metrics(&[("m_total".into(), "Things.".into())]).ends_with("| `m_total` | Things. |\n"));
    }
}
