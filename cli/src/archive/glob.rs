//! Decides whether a text is what a pattern stands for, once a pattern has been taken apart.

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Char(char),
    /// One character that is no `/`.
    One,
    /// Any number of characters, none of them a `/`.
    Some,
    /// Nothing, or anything that ends with a `/`.
    Folders,
    /// Anything.
    Rest,
    /// One character of a set.
    Set(Set),
}

/// Characters between `[` and `]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) is_negated: bool,
    pub(super) ranges: Vec<(char, char)>,
    /// Whether it can stand for a `/` as well.
    pub(super) has_slash: bool,
}

impl Set {
    fn has(&self, c: char) -> bool {
        let within = self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&c));
        within != self.is_negated && (c != '/' || self.has_slash)
    }
}

/// A whole pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Glob {
    /// Characters that a text begins with.
    begins: Vec<char>,
    middle: Vec<Part>,
    /// Characters that it ends with. Most patterns are decided by the two.
    ends: Vec<char>,
}

impl Glob {
    pub(super) fn new(mut parts: Vec<Part>) -> Self {
        let is_char = |part: &&Part| matches!(part, Part::Char(_));
        let chars = |parts: Vec<Part>| -> Vec<char> {
            let char = |part| if let Part::Char(c) = part { Some(c) } else { None };
            parts.into_iter().filter_map(char).collect()
        };
        let begins = parts.iter().take_while(is_char).count();
        let mut middle = parts.split_off(begins);
        let ends = middle.iter().rev().take_while(is_char).count();
        let ends = middle.split_off(middle.len() - ends);
        Self {
            begins: chars(parts),
            middle,
            ends: chars(ends),
        }
    }

    pub(super) fn matches(&self, text: &[char]) -> bool {
        if self.middle.is_empty() {
            return text == self.begins;
        }
        let rest = text.strip_prefix(self.begins.as_slice());
        let middle = rest.and_then(|rest| rest.strip_suffix(self.ends.as_slice()));
        middle.is_some_and(|text| self.middle_matches(text))
    }

    /// One row for each part from the last on: whether the text from a place on is what the parts from there on stand for. So
    /// no pattern takes longer than its length times that of the text.
    fn middle_matches(&self, text: &[char]) -> bool {
        let mut after = vec![false; text.len() + 1];
        after[text.len()] = true;
        for part in self.middle.iter().rev() {
            after = row(part, text, &after);
        }
        after[0]
    }
}

fn row(part: &Part, text: &[char], after: &[bool]) -> Vec<bool> {
    let mut row = vec![false; after.len()];
    // Whether a later '/' of the text is followed by what comes next.
    let mut beyond = false;
    for at in (0..after.len()).rev() {
        let here = text.get(at).copied();
        let one = |is_meant: bool| here.is_some() && is_meant && after[at + 1];
        let on = |is_meant: bool| after[at] || (here.is_some() && is_meant && row[at + 1]);
        row[at] = match part {
            Part::Char(c) => one(here == Some(*c)),
            Part::One => one(here != Some('/')),
            Part::Set(set) => one(here.is_some_and(|c| set.has(c))),
            Part::Some => on(here != Some('/')),
            Part::Rest => on(true),
            Part::Folders => {
                beyond |= one(here == Some('/'));
                after[at] || beyond
            }
        };
    }
    row
}
