//! What a capture says while it runs: each thing once, when it changes.

use std::time::{Duration, Instant};

use engine_sys::packet::Trouble;

use super::overload::{Announced, Change};
use super::view::View;
use crate::diagnostic::{Code, Diagnostic, Talk};
use crate::quantity::thousands;
use crate::sink::http as upload;
use crate::status;

/// What was said last, so that nothing is said twice. The uploader speaks for itself.
#[derive(Default)]
pub(super) struct Said {
    hints: Vec<Code>,
    ring_drops: u64,
    ring_drops_at: Option<Instant>,
    overload: Announced,
}

impl Said {
    /// Other rules: what was said of the old ones may be said of these.
    pub(super) fn rules_changed(&mut self) {
        let is_of_rules = |code: &Code| matches!(code, Code::W033 | Code::W034);
        self.hints.retain(|code| !is_of_rules(code));
    }

    pub(super) fn changes(&mut self, view: &View, talk: Talk) {
        let stages = view.stages();
        for hint in view.hints(&stages) {
            if !self.hints.contains(&hint.code) {
                self.hints.push(hint.code);
                talk.show(&hint);
            }
        }
        let drops = stages.get("shard", "ring_dropped_full");
        let is_quiet = self
            .ring_drops_at
            .is_some_and(|at| at.elapsed() < Duration::from_secs(60));
        if drops > self.ring_drops && !is_quiet {
            talk.show(&ring_was_full(drops - self.ring_drops));
            (self.ring_drops, self.ring_drops_at) = (drops, Some(Instant::now()));
        }
        let overload = status::Overload::of(&stages);
        match self.overload.change(&overload, Instant::now()) {
            Some(Change::Begins) => talk.show(&cannot_keep_up(&overload)),
            Some(Change::Ends) => talk.say(format!("keeping up again: {}", overload.counted())),
            None => {}
        }
    }
}

/// What the uploader has to say, in our form. That all is well again is a sentence, not a warning.
pub(super) fn say_upload(event: &upload::Event, talk: Talk) {
    match (event, Code::find(event.code())) {
        (upload::Event::Up { .. }, _) | (_, None) => talk.say(event),
        (_, Some(code)) => talk.show(&Diagnostic::new(code, event.to_string())),
    }
}

/// That an interface is gone says whoever looks for its return.
pub(super) fn interface_trouble(name: &str, trouble: Trouble) -> Option<Diagnostic> {
    let what = match trouble {
        Trouble::InterfaceDown => format!("{name} went down; capturing on it again once it is up"),
        Trouble::InterfaceGone => return None,
        Trouble::Other(errno) => format!("{name}: {}", std::io::Error::from_raw_os_error(errno)),
    };
    Some(Diagnostic::new(Code::W021, what))
}

pub(super) fn ring_was_full(drops: u64) -> Diagnostic {
    Diagnostic::new(
        Code::W070,
        format!("ring full: {} packets dropped", thousands(drops)),
    )
    .fix("--ring-size 64M, or narrow the capture with -i and -p")
}

pub(super) fn cannot_keep_up(overload: &status::Overload) -> Diagnostic {
    let what = format!("cannot keep up: {}", overload.now());
    Diagnostic::new(Code::W070, what)
        .fix("more shards or a faster machine; or narrow the capture with -i and -p, or `sample` in the rules")
}
