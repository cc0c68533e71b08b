//! Decides what a chain of rules is made of.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ip,
    Bridge,
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Bridge => "bridge",
        }
    }
}

/// Where the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) at: &'static str,
    pub(super) priority: i32,
}

pub(super) struct Chain {
    pub(super) family: Family,
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Rule>,
}

/// A rule, and the words under which it is found again.
pub(super) struct Rule {
    pub(super) text: String,
    pub(super) comment: String,
}

impl Chain {
    /// One of `ip` that others jump to.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            family: Family::Ip,
            name,
            hook: None,
            rules: Vec::new(),
        }
    }

    /// One that the kernel calls.
    pub(super) fn at(self, kind: &'static str, at: &'static str, priority: i32) -> Self {
        let hook = Some(Hook { kind, at, priority });
        Self { hook, ..self }
    }

    pub(super) fn rule(&mut self, comment: impl Into<String>, text: impl Into<String>) {
        let (text, comment) = (text.into(), comment.into());
        self.rules.push(Rule { text, comment });
    }
}
