//! What docker's documentation says of a `.dockerignore`, and what docker does beyond that.

use super::*;

#[track_caller]
fn check(text: &str, out: &[&str], kept: &[&str]) {
    let rules = Dockerignore::parse(text.as_bytes()).expect("patterns");
    for (paths, expected) in [(out, true), (kept, false)] {
        for path in paths {
            assert_eq!(excludes(&rules, path), expected, "{path:?} by {text:?}");
        }
    }
}

/// From the folder down, as a walk does it.
fn excludes(rules: &Dockerignore, path: &str) -> bool {
    let mut above = Above::default();
    let mut is_out = false;
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let part: Vec<char> = path[..end].chars().collect();
        (is_out, above) = rules.decide(&part, &above);
    }
    is_out
}

fn refused(text: &str) -> Wrong {
    Dockerignore::parse(text.as_bytes()).expect_err(text)
}

#[test]
fn g6_patterns_begin_at_the_folder() {
    check("*.log\n", &["a.log", ".log"], &["sub/a.log", "log", "a.logs"]);
    check("**/*.log", &["a.log", "sub/a.log", "a/b/c.log"], &["a.txt"]);
    check(
        "/target/\n# comment\n\n./cache",
        &["target", "target/x/y", "cache/z"],
        &["sub/target", "targets", "# comment"],
    );
    check("*/temp*", &["a/temporary.txt", "a/temp/x"], &["temp", "a/b/temp"]);
    check("*/*/temp*", &["a/b/temporary.txt"], &["a/temp", "a/b/c/temp"]);
    check("temp?", &["tempa", "tempé"], &["temp", "tempab", "temp/", "a/tempa"]);
    check("docs/", &["docs", "docs/a"], &["a/docs"]);
}

#[test]
fn g6_two_stars_are_any_number_of_folders() {
    check("**/foo", &["foo", "a/foo", "a/b/foo/c"], &["xfoo", "foox"]);
    check("foo/**", &["foo/a", "foo/a/b"], &["foo", "a/foo/b"]);
    check("a/**/b", &["a/b", "a/x/b", "a/x/y/b/c"], &["ab", "a/xb", "x/a/b"]);
    check("**", &["a", "a/b"], &[]);
    check("**foo", &["foo", "xfoo", "a/xfoo"], &["foox"]);
    check("foo**", &["foo", "foox", "foox/y"], &["xfoo"]);
    check("**foo?", &["foox", "a/foox"], &["xfoox"]);
    check("**/*.go\n!**/a*.go", &["x/b.go"], &["x/a.go", "ab.go"]);
    check("**/.[a-z]*", &[".env", "x/.env"], &["env", ".Env"]);
    check("***", &["a", "a/b"], &[]);
}

#[test]
fn g6_the_last_match_decides_and_can_take_an_exclusion_back() {
    check(
        "*\n!src\n!README*",
        &["Makefile", "docs/a"],
        &["src", "src/a/b", "README.md"],
    );
    check(
        "*.md\n!README*.md\nREADME-secret.md",
        &["a.md", "README-secret.md"],
        &["README.md"],
    );
    check("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README-secret.md"]);
    check("docs/*\n!docs/keep.md\n", &["docs/a"], &["docs/keep.md", "docs"]);
    check(
        "docs\n!docs/a/keep.md\n",
        &["docs", "docs/a", "docs/a/b"],
        &["docs/a/keep.md"],
    );
    check("!keep\n*", &["keep"], &[]);
    check("*\n! /src/ ", &["a"], &["src", "src/b"]);
    check("*\n!**/.dockerignore", &["a"], &[".dockerignore", "x/.dockerignore"]);
    check("a\n/!a", &[], &["a", "!a"]);
    check("\\!a", &["!a"], &["a"]);
}

#[test]
fn g6_blanks_dots_and_comments_are_seen_through() {
    check("  a  \n\tb\t\nc\r\n\u{a0}d", &["a", "b", "c", "d"], &["a ", " a"]);
    check("#a\n #b\n\\#c", &["#b", "#c"], &["#a", "a", "b"]);
    check("a/./b/\n//c//d\n./e/../f", &["a/b", "c/d", "f"], &["e", "a"]);
    check("/../a\nb/../../b\n../c", &["a"], &["b", "c"]);
    check(".\n/\n..\n\n   \n", &[], &["a", "a/b"]);
    check("\u{feff}a\n\u{feff}b", &["a"], &["b"]);
    check("\u{feff}#a\nb", &["b"], &["#a", "a"]);
    check("/ a\nb/ /\n/ /\n", &["a", "b", "b/ "], &[" ", "c"]);
    check("", &[], &["a"]);
}

#[test]
fn g6_sets_and_escapes() {
    check("[a-c]x", &["ax", "cx"], &["dx", "-x", "ax.", "Ax"]);
    check("[^a-c]x", &["dx", "/x"], &["ax"]);
    check("[!a]x", &["!x", "ax"], &["bx"]);
    check("a\\*b", &["a*b"], &["axb"]);
    check("a\\[b", &["a[b"], &["ab"]);
    check("[\\]a]", &["]", "a"], &["\\"]);
    check("[*]", &["*"], &["x"]);
    check("a?/{x,y}", &["ab/{x,y}"], &["ab/x"]);
    check("a.b+(c|d)$", &["a.b+(c|d)$"], &["axb+(c|d)$"]);
    check("a]", &["a]"], &["a"]);
    check("Makefile", &["Makefile"], &["makefile"]);
}

#[test]
fn g6_what_docker_refuses_is_refused_with_its_line() {
    for (text, line) in [
        ("ok\n[a", 2),
        ("[]a]", 1),
        ("[-a]", 1),
        ("[a-]", 1),
        ("[", 1),
        ("[^]", 1),
        ("[z-a]", 1),
        ("a\nb\nc\\", 3),
        ("a\n!", 2),
        ("a\n! \t", 2),
        ("!/", 1),
        ("/!", 1),
    ] {
        assert_eq!(refused(text).line, line, "{text:?}");
    }
}
