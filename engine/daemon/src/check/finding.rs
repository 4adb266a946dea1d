//! A finding: what was examined, and how much the result matters.

use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::sink::kind::Probe;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// For information.
    Info,
    /// Could be better, or differs from what users expect.
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

/// The result of examining one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How much it matters.
    pub(super) level: Level,
    /// What was examined: `packet socket`, `net.core.rmem_max`.
    pub(super) topic: String,
    /// What was found.
    pub(super) text: String,
    /// Why it matters, or what was examined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// A command to paste.
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

    /// The problem that `run` would report.
    pub(super) fn of(problem: Diagnostic, topic: &str) -> Self {
        let level = if problem.code.stops() {
            Level::Fail
        } else {
            Level::Warn
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
