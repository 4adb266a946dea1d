//! Orders from the watching thread to a shard: stop, use other rules, read one more ring, read other interfaces.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine_core::rules::RuleSet;
use engine_sys::event::EventFd;
use engine_sys::packet::Instruction;

use super::source::Source;
use crate::counters::RuleCells;

/// Each rule set, and where its matches are published.
type NewRules = Vec<(Arc<RuleSet>, RuleCells)>;

/// The interfaces whose frames a shared ring takes.
#[derive(Clone, Debug)]
pub struct Interfaces {
    /// The filter of the ring.
    pub program: Arc<[Instruction]>,
    /// Names of those that are to deliver frames to other hosts, too.
    pub promiscuous: Vec<String>,
}

/// The orders to one shard, which checks the flags once in each round over its rings.
#[derive(Clone)]
pub struct Orders {
    stop: Arc<AtomicBool>,
    hurry: Arc<AtomicBool>,
    pub(super) event: Arc<EventFd>,
    rules: Arc<Mutex<Option<NewRules>>>,
    has_rules: Arc<AtomicBool>,
    sources: Arc<Mutex<Vec<Source>>>,
    has_sources: Arc<AtomicBool>,
    interfaces: Arc<Mutex<Option<Interfaces>>>,
    has_interfaces: Arc<AtomicBool>,
}

impl Orders {
    /// No order.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            stop: Arc::default(),
            hurry: Arc::default(),
            event: Arc::new(EventFd::new()?),
            rules: Arc::default(),
            has_rules: Arc::default(),
            sources: Arc::default(),
            has_sources: Arc::default(),
            interfaces: Arc::default(),
            has_interfaces: Arc::default(),
        })
    }

    /// Orders the shard to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.event.set();
    }

    /// Orders a shard that stops to wait for nothing any longer.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.hurry.load(Ordering::Acquire)
    }

    /// Orders the shard to apply these rules to exchanges that start from now on, and to publish their matches there.
    pub fn set_rules(&self, rules: NewRules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
        self.has_rules.store(true, Ordering::Release);
        self.event.set();
    }

    /// Whether the shard uses the rules that it was given last.
    pub fn has_taken_rules(&self) -> bool {
        !self.has_rules.load(Ordering::Acquire)
    }

    /// Orders the shard to read this ring as well.
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

    /// Orders the shard to read these interfaces in its shared ring.
    pub fn set_interfaces(&self, interfaces: Interfaces) {
        *self
            .interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(interfaces);
        self.has_interfaces.store(true, Ordering::Release);
        self.event.set();
    }

    pub(super) fn take_interfaces(&self) -> Option<Interfaces> {
        if !self.has_interfaces.load(Ordering::Acquire) {
            return None;
        }
        self.has_interfaces.store(false, Ordering::Release);
        self.interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
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
