//! Interfaces that come after the start: those that return, and with no names given, new ones.
//!
//! An interface that goes down and up keeps its rings and needs nothing of this. Looks at the list of interfaces only
//! when the kernel says that it changed. Leaves alone what would show packets twice: an interface behind which the
//! kernel undoes a VXLAN that we undo ourselves.

use std::collections::BTreeSet;

use engine_sys::interfaces::{self, Changes};
use engine_sys::packet::Trouble;

use super::choice::{self, Choice};
use super::rings::{Opened, Opener};
use crate::config::{Capture, Engine};
use crate::diagnostic::{Code, Diagnostic, Talk};

/// What is captured, and what is wanted.
pub struct Follower {
    wanted: Vec<String>,
    engine: Engine,
    kernel_vxlan_ports: Vec<u16>,
    /// Names of interfaces with rings.
    captured: BTreeSet<String>,
    /// Names of those that could not be, said once.
    refused: BTreeSet<String>,
    opener: Opener,
    changes: Changes,
    /// Something changed since interfaces were last looked at.
    is_due: bool,
}

impl Follower {
    /// `choice` is captured by now.
    pub fn new(config: &Capture, choice: &Choice, mut opener: Opener) -> Result<Self, Diagnostic> {
        let changes = Changes::new().map_err(|error| {
            Diagnostic::new(Code::E090, format!("cannot follow interfaces: {error}"))
                .cause("rtnetlink(7) refused")
        })?;
        let names = choice.interfaces.iter();
        opener.capability_is_gone();
        Ok(Self {
            wanted: config.interfaces.clone(),
            engine: config.engine,
            kernel_vxlan_ports: choice.kernel_vxlan_ports.clone(),
            captured: names.map(|interface| interface.name.clone()).collect(),
            refused: BTreeSet::new(),
            opener,
            changes,
            is_due: false,
        })
    }

    /// A shard met this.
    pub fn note(&mut self, name: &str, trouble: Trouble) {
        if trouble == Trouble::InterfaceGone {
            self.captured.remove(name);
            self.is_due = true;
        }
    }

    /// Rings on interfaces that came.
    pub fn look(&mut self, talk: Talk) -> Vec<Opened> {
        if !self.changes.any() && !std::mem::take(&mut self.is_due) {
            return Vec::new();
        }
        self.is_due = false;
        let Ok(all) = interfaces::list() else {
            self.is_due = true;
            return Vec::new();
        };
        self.refused
            .retain(|name| all.iter().any(|interface| &interface.name == name));
        // An error is that nothing is up, or that a name is not there: both may change.
        let Ok(choice) = choice::choose(&self.wanted, self.engine, &all) else {
            return Vec::new();
        };
        let doubles = |port| !self.kernel_vxlan_ports.contains(port);
        if choice.kernel_vxlan_ports.iter().any(doubles) {
            return Vec::new();
        }
        let mut opened = Vec::new();
        for interface in &choice.interfaces {
            if self.captured.contains(&interface.name) || self.refused.contains(&interface.name) {
                continue;
            }
            match self.opener.open(interface) {
                Ok(rings) => {
                    self.captured.insert(interface.name.clone());
                    talk.say(format_args!("capturing on {} now", interface.name));
                    opened.push(rings);
                }
                Err(problem) => {
                    self.refused.insert(interface.name.clone());
                    talk.show(&Diagnostic::new(Code::W021, problem.what));
                }
            }
        }
        opened
    }
}
