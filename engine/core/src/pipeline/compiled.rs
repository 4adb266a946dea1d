//! Pipelines whose hot functions are compiled in this crate.
//!
//! [`Pipeline`] is generic, so whoever names it compiles the whole path of a frame again. The program uses these two types
//! instead, which are compiled with the settings of this crate, and once for both: with one rule set their lines go to the same
//! type of output ([`Lines`]).

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

use super::{Config, Ledger, Pipeline};
use crate::bundle::Bundler;
use crate::decap::{Frame, VniSeen};
use crate::flow::CopyTable;
use crate::http::{PortCounts, PortTable};
use crate::message::{LineWriter, LineWriters, Notes, Output, ShedPolicy};
use crate::rules::RuleSet;
use crate::time::Timestamp;
use crate::uploads::SenderTable;

/// An output that its owner looks at between two frames.
pub type Shared<'a> = Rc<RefCell<dyn Output + 'a>>;

impl Output for Shared<'_> {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        self.borrow_mut().line(line, notes);
    }

    fn parts(&mut self, parts: &[&[u8]], buffer: &mut Vec<u8>, notes: &Notes) {
        self.borrow_mut().parts(parts, buffer, notes);
    }
}

/// Where the lines of either pipeline go: one look at which it is for each line.
#[expect(
    clippy::large_enum_variant,
    reason = "a pipeline has one for each rule set, for as long as it runs"
)]
pub enum Lines<'a> {
    /// That of a capture.
    Bundler(Bundler),
    /// That of a command that reads files.
    Shared(Shared<'a>),
}

impl Output for Lines<'_> {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        match self {
            Self::Bundler(bundler) => bundler.line(line, notes),
            Self::Shared(shared) => shared.line(line, notes),
        }
    }

    #[inline]
    fn parts(&mut self, parts: &[&[u8]], buffer: &mut Vec<u8>, notes: &Notes) {
        match self {
            Self::Bundler(bundler) => bundler.parts(parts, buffer, notes),
            Self::Shared(shared) => shared.parts(parts, buffer, notes),
        }
    }
}

impl Lines<'_> {
    fn bundler(&mut self) -> Option<&mut Bundler> {
        match self {
            Self::Bundler(bundler) => Some(bundler),
            Self::Shared(_) => None,
        }
    }
}

/// The pipeline of a capture: its lines go to a bundler, or to one for each rule set.
pub struct CapturePipeline(Sets);

/// Whether there are several rule sets: with one the code of the readers is that of one line writer.
#[expect(
    clippy::large_enum_variant,
    reason = "a capture thread has one, for as long as it runs"
)]
enum Sets {
    One(Pipeline<Lines<'static>>),
    Several(Pipeline<Lines<'static>, LineWriters<Lines<'static>>>),
}

/// The same for both.
macro_rules! either {
    ($sets:expr, $pipeline:ident => $value:expr) => {
        match $sets {
            Sets::One($pipeline) => $value,
            Sets::Several($pipeline) => $value,
        }
    };
}

impl CapturePipeline {
    /// A pipeline that writes lines under each of these rule sets to the bundler beside it.
    pub fn new(config: &Config, sets: Vec<(Arc<RuleSet>, Bundler)>) -> Self {
        let sets = sets.into_iter();
        let sets = sets.map(|(rules, bundler)| (rules, Lines::Bundler(bundler)));
        let mut sets: Vec<_> = sets.collect();
        match (sets.pop(), sets.is_empty()) {
            (Some((rules, lines)), true) => Self(Sets::One(Pipeline::new(config, rules, lines))),
            (last, _) => {
                sets.extend(last);
                Self(Sets::Several(Pipeline::several(config, sets)))
            }
        }
    }

    /// See [`Pipeline::feed`].
    pub fn feed(&mut self, frame: &Frame<'_>) {
        either!(&mut self.0, pipeline => pipeline.feed(frame));
    }

    /// See [`Pipeline::tick`].
    pub fn tick(&mut self, now: Timestamp) {
        either!(&mut self.0, pipeline => pipeline.tick(now));
    }

    /// See [`Pipeline::finish`].
    pub fn finish(&mut self, now: Timestamp) {
        either!(&mut self.0, pipeline => pipeline.finish(now));
    }

    /// See [`Pipeline::set_rules`].
    pub fn set_rules(&mut self, set: usize, rules: Arc<RuleSet>) {
        either!(&mut self.0, pipeline => pipeline.set_rules(set, rules));
    }

    /// See [`Pipeline::set_shed_policy`].
    pub fn set_shed_policy(&mut self, policy: ShedPolicy) {
        either!(&mut self.0, pipeline => pipeline.set_shed_policy(policy));
    }

    /// See [`Pipeline::writers`].
    pub fn writers(&self) -> &[LineWriter<Lines<'static>>] {
        either!(&self.0, pipeline => pipeline.writers())
    }

    /// The bundlers, by rule set.
    pub fn bundlers(&mut self) -> impl Iterator<Item = &mut Bundler> {
        let writers = either!(&mut self.0, pipeline => pipeline.writers_mut());
        let lines = writers.iter_mut().map(LineWriter::output);
        lines.filter_map(Lines::bundler)
    }

    /// See [`Pipeline::ports_seen`].
    pub fn ports_seen(&self) -> &PortTable {
        either!(&self.0, pipeline => pipeline.ports_seen())
    }

    /// See [`Pipeline::copies_seen`].
    pub fn copies_seen(&self) -> &CopyTable {
        either!(&self.0, pipeline => pipeline.copies_seen())
    }

    /// See [`Pipeline::ports_unwanted`].
    pub fn ports_unwanted(&self) -> &PortCounts {
        either!(&self.0, pipeline => pipeline.ports_unwanted())
    }

    /// See [`Pipeline::vnis_seen`].
    pub fn vnis_seen(&self) -> &[VniSeen] {
        either!(&self.0, pipeline => pipeline.vnis_seen())
    }

    /// See [`Pipeline::take_new_flows`].
    pub fn take_new_flows(&mut self) -> Box<dyn Iterator<Item = u64> + '_> {
        either!(&mut self.0, pipeline => Box::new(pipeline.take_new_flows()))
    }

    /// See [`Pipeline::upload_senders`].
    pub fn upload_senders(&self) -> Option<&SenderTable> {
        either!(&self.0, pipeline => pipeline.upload_senders())
    }

    /// See [`Pipeline::ledger`].
    pub fn ledger(&self) -> Ledger {
        either!(&self.0, pipeline => pipeline.ledger())
    }
}

/// The pipeline of a command that reads files: its lines go to an output of that command.
pub struct FilePipeline<'a>(Pipeline<Lines<'a>>);

impl<'a> FilePipeline<'a> {
    /// See [`Pipeline::new`].
    pub fn new(config: &Config, rules: Arc<RuleSet>, output: Shared<'a>) -> Self {
        Self(Pipeline::new(config, rules, Lines::Shared(output)))
    }

    /// See [`Pipeline::feed`].
    pub fn feed(&mut self, frame: &Frame<'_>) {
        self.0.feed(frame);
    }

    /// See [`Pipeline::tick`].
    pub fn tick(&mut self, now: Timestamp) {
        self.0.tick(now);
    }

    /// See [`Pipeline::finish`].
    pub fn finish(&mut self, now: Timestamp) {
        self.0.finish(now);
    }
}

impl<'a> Deref for FilePipeline<'a> {
    type Target = Pipeline<Lines<'a>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for FilePipeline<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
