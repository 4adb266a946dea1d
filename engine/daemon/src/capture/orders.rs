//! What a shard is told from outside: to stop, to take other rules, or to read a ring more.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine_core::rules::RuleSet;
use engine_sys::event::EventFd;

use super::source::Source;
use crate::counters::RuleCells;

/// Rules, and where their hits are published.
type NewRules = (Arc<RuleSet>, RuleCells);

/// What one shard is told from outside: to stop, to take other rules, or to read a ring more. It looks once a turn, at
/// two flags.
#[derive(Clone)]
pub struct Orders {
    told: Arc<AtomicBool>,
    pub(super) event: Arc<EventFd>,
    rules: Arc<Mutex<Option<NewRules>>>,
    has_rules: Arc<AtomicBool>,
    sources: Arc<Mutex<Vec<Source>>>,
    has_sources: Arc<AtomicBool>,
}

impl Orders {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            told: Arc::default(),
            event: Arc::new(EventFd::new()?),
            rules: Arc::default(),
            has_rules: Arc::default(),
            sources: Arc::default(),
            has_sources: Arc::default(),
        })
    }

    /// Stop.
    pub fn stop(&self) {
        self.told.store(true, Ordering::Release);
        self.event.set();
    }

    /// Take these rules for what begins from now on, and publish their hits there.
    pub fn set_rules(&self, rules: Arc<RuleSet>, hits: RuleCells) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some((rules, hits));
        self.has_rules.store(true, Ordering::Release);
        self.event.set();
    }

    /// Whether the shard judges by the rules that it was given last.
    pub fn has_taken_rules(&self) -> bool {
        !self.has_rules.load(Ordering::Acquire)
    }

    /// Read this ring, too.
    pub fn add_source(&self, source: Source) {
        self.sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(source);
        self.has_sources.store(true, Ordering::Release);
        self.event.set();
    }

    pub(super) fn take_sources(&self) -> Vec<Source> {
        if !self.has_sources.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.sources.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_stop(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    pub(super) fn take_rules(&self) -> Option<NewRules> {
        if !self.has_rules.load(Ordering::Acquire) {
            return None;
        }
        self.has_rules.store(false, Ordering::Release);
        self.rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
