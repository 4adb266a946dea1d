//! Pipelines whose hot functions are compiled in this crate.
//!
//! [`Pipeline`] is generic, so whoever names it compiles the whole path of a frame again, with the settings of the own
//! crate. The program optimizes its other code for size: it uses these two types instead.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

use super::{Config, Pipeline};
use crate::bundle::Bundler;
use crate::decap::Frame;
use crate::message::{Notes, Output};
use crate::rules::RuleSet;
use crate::time::Timestamp;

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

macro_rules! compiled {
    ($(#[$doc:meta])* $name:ident $(<$life:lifetime>)?, $output:ty) => {
        $(#[$doc])*
        pub struct $name $(<$life>)? (Pipeline<$output>);

        impl $(<$life>)? $name $(<$life>)? {
            /// See [`Pipeline::new`].
            pub fn new(config: &Config, rules: Arc<RuleSet>, output: $output) -> Self {
                Self(Pipeline::new(config, rules, output))
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

        impl $(<$life>)? Deref for $name $(<$life>)? {
            type Target = Pipeline<$output>;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl $(<$life>)? DerefMut for $name $(<$life>)? {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }
    };
}

compiled! {
    /// The pipeline of a capture: its lines go to a bundler.
    CapturePipeline, Bundler
}

compiled! {
    /// The pipeline of a command that reads files: its lines go to an output of that command.
    FilePipeline<'a>, Shared<'a>
}
