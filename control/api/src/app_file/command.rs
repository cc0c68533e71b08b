//! Decides which words a command is, and whether a shell has to read it.

use std::iter::Peekable;
use std::str::Chars;

/// Characters that mean something to a shell wherever they are not quoted.
const SYNTAX: &str = "$`&|;<>()*?[\n";
/// First words that only a shell can carry out: reserved ones, and builtins that no program stands in for.
const BUILTINS: &str = "! . : [[ alias bg break builtin case cd command continue declare do done elif else esac eval exec exit \
                        export fc fg fi for function getopts hash if in jobs let local popd pushd read readonly return select \
                        set shift shopt source then times trap type typeset ulimit umask unalias unset until wait while { }";

/// The argument vector of a command: its words, as a shell would read them, or `/bin/sh -c` and the command where that means
/// something only to a shell; see [`shell_syntax`]. Empty for a command that is blank.
pub fn command_line(command: &str) -> Vec<String> {
    match read(command) {
        Ok(words) => words,
        Err(_) => vec!["/bin/sh".into(), "-c".into(), command.to_owned()],
    }
}

/// What of a command only a shell understands, in the user's words; none: it runs without one.
pub fn shell_syntax(command: &str) -> Option<String> {
    read(command).err()
}

/// Words, with their quotes taken off (POSIX.1-2017, Shell Command Language, 2.2 and 2.3).
fn read(command: &str) -> Result<Vec<String>, String> {
    let mut reader = Reader {
        rest: command.trim().chars().peekable(),
        words: Vec::new(),
        word: None,
    };
    reader.read_all()?;
    reader.end_word();
    let words = reader.words;
    let Some(first) = words.first() else {
        return match command.trim() {
            "" => Ok(Vec::new()),
            _ => Err("an empty command".to_owned()),
        };
    };
    if let Some(name) = first.assigns() {
        return Err(format!("`{name}=`"));
    }
    let mut texts: Vec<String> = words.into_iter().map(|word| word.text).collect();
    // What a shell would do about it is what happens without one.
    if texts[0] == "exec"
        && texts
            .get(1)
            .is_some_and(|next| !next.is_empty() && !next.starts_with('-'))
    {
        texts.remove(0);
        return Ok(texts);
    }
    match texts[0].as_str() {
        "" => Err("an empty command".to_owned()),
        first if BUILTINS.split(' ').any(|builtin| builtin == first) => Err(format!("`{first}`")),
        _ => Ok(texts),
    }
}

#[derive(Default)]
struct Word {
    text: String,
    /// Length of what stands before its first quote.
    plain: Option<usize>,
    /// It has an opening brace that is not quoted.
    brace: bool,
}

impl Word {
    /// The name of the variable that it sets for the command behind it.
    fn assigns(&self) -> Option<&str> {
        let (name, _) = self.text.split_once('=')?;
        let is_quoted = self.plain.is_some_and(|plain| plain <= name.len());
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let is_name = name.chars().all(is_letter) && name.starts_with(|first: char| !first.is_ascii_digit());
        (is_name && !is_quoted).then_some(name)
    }

    /// Whether a shell that knows lists in braces would make several words of it.
    fn is_list(&self, next: char) -> bool {
        self.brace && (next == ',' || next == '.' && self.text.ends_with('.'))
    }
}

struct Reader<'c> {
    rest: Peekable<Chars<'c>>,
    words: Vec<Word>,
    word: Option<Word>,
}

impl Reader<'_> {
    fn read_all(&mut self) -> Result<(), String> {
        while let Some(next) = self.rest.next() {
            match next {
                '\n' => return Err("a second line".to_owned()),
                _ if next.is_ascii_whitespace() => self.end_word(),
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '\\' => self.escaped()?,
                '#' | '~' if self.word.is_none() => return Err(format!("`{next}`")),
                _ if SYNTAX.contains(next) => return Err(format!("`{next}`")),
                _ => self.plain(next)?,
            }
        }
        Ok(())
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn plain(&mut self, letter: char) -> Result<(), String> {
        let word = self.word.get_or_insert_default();
        if word.is_list(letter) {
            return Err("`{`".to_owned());
        }
        word.brace |= letter == '{';
        word.text.push(letter);
        Ok(())
    }

    /// The word that a quote belongs to.
    fn quoted(&mut self) -> &mut Word {
        let word = self.word.get_or_insert_default();
        word.plain.get_or_insert(word.text.len());
        word
    }

    fn single_quoted(&mut self) -> Result<(), String> {
        self.quoted();
        loop {
            match self.rest.next() {
                None => return Err(open_quote()),
                Some('\'') => return Ok(()),
                Some(letter) => self.quoted().text.push(letter),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<(), String> {
        self.quoted();
        loop {
            match self.rest.next() {
                None => return Err(open_quote()),
                Some('"') => return Ok(()),
                Some(letter @ ('$' | '`')) => return Err(format!("`{letter}`")),
                Some('\\') => match self.rest.next_if(|next| "$`\"\\\n".contains(*next)) {
                    Some('\n') => {}
                    Some(letter) => self.quoted().text.push(letter),
                    None => self.quoted().text.push('\\'),
                },
                Some(letter) => self.quoted().text.push(letter),
            }
        }
    }

    fn escaped(&mut self) -> Result<(), String> {
        match self.rest.next() {
            // A line that goes on.
            Some('\n') => {}
            Some(letter) => self.quoted().text.push(letter),
            None => return Err("`\\` at its end".to_owned()),
        }
        Ok(())
    }
}

fn open_quote() -> String {
    "a quote that is not closed".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<String> {
        assert_eq!(shell_syntax(command), None, "{command}");
        command_line(command)
    }

    #[test]
    fn g5_plain_words_need_no_shell() {
        assert_eq!(words("node  server.js"), ["node", "server.js"]);
        assert_eq!(words("/server --listen=:8080"), ["/server", "--listen=:8080"]);
        assert_eq!(words("\n  a\tb\r\n"), ["a", "b"]);
    }

    #[test]
    fn g5_quotes_are_taken_off_as_a_shell_does_it() {
        for (command, expected) in [
            (r#"a 'b c' "d e" f\ g"#, &["a", "b c", "d e", "f g"][..]),
            (
                r#"a '$HOME' "\$x" \$y '*' "a'b" 'a"b'"#,
                &["a", "$HOME", "$x", "$y", "*", "a'b", "a\"b"],
            ),
            (r#"a "" '' x""y"#, &["a", "", "", "xy"]),
            (r#"a "\n\\\"" \n"#, &["a", "\\n\\\"", "n"]),
            ("a b\\\n c\\\nd", &["a", "b", "cd"]),
            (r#"sh -c 'cd /x && exec "$0"'"#, &["sh", "-c", "cd /x && exec \"$0\""]),
        ] {
            assert_eq!(words(command), expected, "{command}");
        }
    }

    #[test]
    fn g5_what_means_something_in_one_place_only_is_plain_elsewhere() {
        for command in [
            "a --x=1 b=2",
            "a b#c",
            "a b~",
            "a ! b",
            "a {} }",
            "a --json={id}",
            "a 100% x^y b]",
            "a cd exec",
            "env A=1 b",
            "1=2 x",
            "'A=1' b",
            "'{a,b}' x",
            "./cd x",
        ] {
            let split: Vec<String> = command.split(' ').map(|word| word.replace('\'', "")).collect();
            assert_eq!(words(command), split, "{command}");
        }
    }

    #[test]
    fn g5_exec_of_plain_words_is_those_words() {
        assert_eq!(words("exec python3 server.py"), ["python3", "server.py"]);
        assert_eq!(words("exec 'a b'"), ["a b"]);
        for command in ["exec", "exec -a x y", "exec $X", "exec ''"] {
            assert_eq!(command_line(command), ["/bin/sh", "-c", command]);
        }
    }

    #[test]
    fn g5_what_only_a_shell_understands_goes_to_one_and_is_named() {
        for (command, told) in [
            ("serve --port $PORT", "`$`"),
            ("serve \"$PORT\"", "`$`"),
            ("serve `date`", "```"),
            ("cd x && y", "`&`"),
            ("cd x", "`cd`"),
            ("a | b", "`|`"),
            ("a; b", "`;`"),
            ("a > b", "`>`"),
            ("a *.js", "`*`"),
            ("a [0-9]", "`[`"),
            ("a {b,c}", "`{`"),
            ("a {1..3}", "`{`"),
            ("VAR=1 cmd", "`VAR=`"),
            ("VAR='a b' cmd", "`VAR=`"),
            ("~/bin/x", "`~`"),
            ("a ~/x", "`~`"),
            ("# nothing", "`#`"),
            ("a # b", "`#`"),
            ("a\nb", "a second line"),
            ("source x", "`source`"),
            (". x", "`.`"),
            ("ulimit -n 100", "`ulimit`"),
            ("if true", "`if`"),
            ("! a", "`!`"),
            ("a 'b", "a quote that is not closed"),
            ("a \"b", "a quote that is not closed"),
            ("a \\", "`\\` at its end"),
            ("''", "an empty command"),
        ] {
            assert_eq!(shell_syntax(command).as_deref(), Some(told), "{command}");
            assert_eq!(command_line(command), ["/bin/sh", "-c", command], "{command}");
        }
        assert!(command_line(" \n ").is_empty());
    }
}
