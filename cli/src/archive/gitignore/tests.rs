//! What git's documentation says of a `.gitignore`, and what git does beyond that.

use super::*;

#[track_caller]
fn check(text: &str, out: &[&str], kept: &[&str]) {
    let rules = Gitignore::parse(text.as_bytes()).expect("patterns");
    for (paths, expected) in [(out, true), (kept, false)] {
        for path in paths {
            assert_eq!(excludes(&rules, path), expected, "{path:?} by {text:?}");
        }
    }
}

/// From the folder down; a path that ends with a `/` is a folder's.
fn excludes(rules: &Gitignore, path: &str) -> bool {
    let bytes = bytes_of(path.trim_end_matches('/').as_ref());
    let mut ends = bytes.iter().enumerate().filter(|(_, c)| **c == '/');
    ends.any(|(at, _)| rules.decide(&bytes[..at], true) == Some(true))
        || rules.decide(&bytes, path.ends_with('/')) == Some(true)
}

#[test]
fn g6_a_pattern_without_a_slash_is_a_name_at_any_depth() {
    check("*.log\nfoo", &["a.log", "x/a.log", "foo", "x/foo/y"], &["log", "xfoo"]);
    check("/foo\nx/bar", &["foo", "x/bar"], &["a/foo", "a/x/bar", "bar"]);
    check("foo/", &["foo/", "x/foo/", "x/foo/a"], &["foo", "x/foo"]);
    check("/foo/", &["foo/", "foo/a"], &["foo", "x/foo/"]);
    check("foo/*", &["foo/a", "foo/b/c"], &["foo/", "x/foo/a"]);
    check("a*c\n?x", &["abc", "ac", "yx"], &["a/c", "x", "yyx"]);
}

#[test]
fn g6_two_stars_are_folders_only_where_they_are_all_of_a_name() {
    check("**/foo", &["foo", "a/foo", "a/b/foo"], &["xfoo"]);
    check("**/foo/bar", &["foo/bar", "a/foo/bar"], &["foo/x/bar"]);
    check("abc/**", &["abc/x", "abc/x/y"], &["abc/", "x/abc/y"]);
    check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb"]);
    check("/a**b", &["ab", "axb"], &["a/b"]);
    check("x/a**", &["x/ab", "x/a/b"], &["y/x/a"]);
    check("foo**/bar", &["foo/bar", "foox/y/bar"], &["bar"]);
    check("?oo**/bar", &["foox/bar"], &["foo/x/bar"]);
}

#[test]
fn g6_the_last_match_decides_but_not_below_an_excluded_folder() {
    check("*.log\n!keep.log", &["a.log"], &["keep.log", "x/keep.log"]);
    check("!keep.log\n*.log", &["keep.log"], &[]);
    check("foo/\n!foo/bar", &["foo/bar"], &[]);
    check("/*\n!/foo\n/foo/*\n!/foo/bar", &["a", "foo/x"], &["foo/", "foo/bar"]);
    check("\\!a\n\\#b", &["!a", "#b"], &["a", "b"]);
    check("!\n/\n\n", &[], &["a", "!"]);
}

#[test]
fn g6_spaces_marks_and_comments() {
    check(
        "a  \nb\\ \nc\\  \n d\ne\t",
        &["a", "b ", "c ", " d", "e\t"],
        &["a ", "b", "c", "d", "e"],
    );
    check("# a\n #b\nc#d", &[" #b", "c#d"], &["a", "b"]);
    check("a\r\nb\r", &["a", "b"], &["a\r"]);
    check("\u{feff}a\n\u{feff}b", &["a"], &["b"]);
    check("\u{feff}# a\nb", &["b"], &["# a"]);
}

#[test]
fn g6_sets_and_escapes() {
    check("[a-c]x", &["ax", "cx"], &["dx", "-x"]);
    check("[!a-c]x\n[^d]y", &["dx", "ay"], &["ax", "dy"]);
    check("/a[/]b\n/c[!x]d", &["cyd"], &["a/b", "c/d"]);
    check("[]a]\n[!]b]c", &["]", "a", "ac"], &["]c", "bc"]);
    check("[a-]\nb[-c]", &["a", "-", "b-", "bc"], &["b"]);
    check(
        "[[:digit:]x]\n[[:upper:][:space:]]y",
        &["5", "x", "Ay", " y"],
        &["y", "ay"],
    );
    check("[[:]\n[\\]]z\n[a-\\c]w", &["[", ":", "]z", "bw"], &["\\z"]);
    check("a\\*\n\\b\n{c,d}", &["a*", "b", "{c,d}"], &["ab", "c", "d"]);
    check("[z-a]", &["z"], &["a", "m"]);
    check("???", &["abc", "é1"], &["ab", "éa1"]);
    check("FOO", &["FOO"], &["foo"]);
}

#[test]
fn g6_what_git_would_match_with_nothing_is_refused_with_its_line() {
    for (text, line) in [
        ("a\n[a", 2),
        ("a\\", 1),
        ("\n\nx[[:foo:]]", 3),
        ("[", 1),
        ("[!]", 1),
        ("a\n[\\", 2),
    ] {
        let wrong = Gitignore::parse(text.as_bytes()).expect_err(text);
        assert_eq!(wrong.line, line, "{text:?}: {}", wrong.why);
    }
}
