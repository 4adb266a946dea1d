//! One thing that was looked at, and how much it matters.

use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::sink::kind::Probe;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// To know.
    Info,
    /// Could be better, or will not be what is expected.
    Warn,
    /// Does not work.
    Fail,
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How much it matters.
    pub(super) level: Level,
    /// What was looked at: `packet socket`, `net.core.rmem_max`.
    pub(super) topic: String,
    /// What was found.
    pub(super) text: String,
    /// Why it matters, or what we looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// Something to paste.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn new(level: Level, topic: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            level,
            topic: topic.into(),
            text: text.into(),
            why: None,
            fix: None,
        }
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// What a sink found when it was tried.
    pub(super) fn of_sink(probe: Probe) -> Self {
        match probe.problem {
            None => Self::new(Level::Ok, probe.topic, probe.text),
            Some((why, fix)) => Self::new(Level::Fail, probe.topic, probe.text)
                .why(why)
                .fix(fix),
        }
    }

    /// What `run` would say.
    pub(super) fn of(problem: Diagnostic, topic: &str) -> Self {
        let level = match problem.code.stops() {
            true => Level::Fail,
            false => Level::Warn,
        };
        Self {
            level,
            topic: topic.to_owned(),
            text: format!("{} [{}]", problem.what, problem.code),
            why: problem.cause,
            fix: problem.fix,
        }
    }
}
