//! Decides how this program is told what to do, apart from the command.

/// What stands between its name and the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-r`: it becomes the command itself, which brings an init of its own.
    pub replaces: bool,
    /// `-sN`: the raw status of the app is written to this descriptor before the end, as 4 bytes.
    pub status: Option<i32>,
}

impl Options {
    /// Reads the words after its name as far as `--`; with them, how many these were. None: it was not called rightly, or without
    /// a command.
    pub fn read<'w>(words: impl Iterator<Item = &'w [u8]>) -> Option<(Self, usize)> {
        let mut options = Self::default();
        let mut words = words.enumerate();
        for (at, word) in words.by_ref() {
            match word {
                b"--" => return words.next().map(|_| (options, at + 1)),
                b"-r" => options.replaces = true,
                [b'-', b's', number @ ..] => options.status = Some(decimal(number)?),
                _ => return None,
            }
        }
        None
    }
}

fn decimal(digits: &[u8]) -> Option<i32> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Options, usize)> {
        Options::read(text.split_whitespace().map(str::as_bytes))
    }

    #[test]
    fn g4_the_command_begins_behind_the_dashes() {
        let of = |replaces, status| Options { replaces, status };
        assert_eq!(read("-- node -r --"), Some((of(false, None), 1)));
        assert_eq!(read("-r -- /sbin/init"), Some((of(true, None), 2)));
        assert_eq!(read("-s3 -- a"), Some((of(false, Some(3)), 2)));
        for wrong in ["", "--", "-r --", "node", "-s -- a", "-x -- a"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
