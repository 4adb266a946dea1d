//! Interfaces that come after the start: those that return, and with no names given, new ones.
//!
//! An interface that goes down and up keeps its rings and needs nothing of this. Looks at the list of interfaces only
//! when the kernel says that it changed. Leaves alone what would show packets twice: an interface behind which the
//! kernel undoes a VXLAN that we undo ourselves.

use std::collections::{BTreeMap, BTreeSet};

use engine_sys::interfaces::{self, Changes};

use super::interfaces::{self as choice, Choice};
use super::rings::{Opened, Opener};
use crate::config::{Capture, CaptureMode};
use crate::diagnostic::{Code, Console, Diagnostic};

/// What is captured, and what is wanted.
pub struct Follower {
    wanted: Vec<String>,
    mode: CaptureMode,
    kernel_vxlan_ports: Vec<u16>,
    /// Interfaces with rings, by index: a ring follows its interface under another name, and not to another one of the
    /// same name.
    captured: BTreeMap<u32, String>,
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
        let chosen = choice.interfaces.iter();
        opener.capability_is_gone();
        Ok(Self {
            wanted: config.settings.interfaces.clone(),
            mode: config.settings.mode,
            kernel_vxlan_ports: choice.kernel_vxlan_ports.clone(),
            captured: chosen
                .map(|interface| (interface.index, interface.name.clone()))
                .collect(),
            refused: BTreeSet::new(),
            opener,
            changes,
            is_due: false,
        })
    }

    /// Somebody saw a change; a ring is told of a deletion only if it was up until then.
    pub fn note(&mut self) {
        self.is_due = true;
    }

    /// Rings on interfaces that came.
    pub fn look(&mut self, console: Console) -> Vec<Opened> {
        // Asked first, so that what was heard up to now is taken in either case.
        let has_changed = self.changes.any();
        if !std::mem::take(&mut self.is_due) && !has_changed {
            return Vec::new();
        }
        let Ok(all) = interfaces::list() else {
            self.is_due = true;
            return Vec::new();
        };
        self.captured.retain(|&index, name| {
            let is_there = all.iter().any(|interface| interface.index == index);
            if !is_there {
                let what = format!("{name} went away; capturing on it again once it is back");
                console.report(&Diagnostic::new(Code::W021, what));
            }
            is_there
        });
        self.refused
            .retain(|name| all.iter().any(|interface| &interface.name == name));
        // An error is that nothing is up, or that a name is not there: both may change.
        let Ok(choice) = choice::choose(&self.wanted, self.mode, &all) else {
            return Vec::new();
        };
        let doubles = |port| !self.kernel_vxlan_ports.contains(port);
        if choice.kernel_vxlan_ports.iter().any(doubles) {
            return Vec::new();
        }
        let mut opened = Vec::new();
        for interface in &choice.interfaces {
            if self.captured.contains_key(&interface.index)
                || self.refused.contains(&interface.name)
            {
                continue;
            }
            match self.opener.open(interface) {
                Ok(rings) => {
                    self.captured
                        .insert(interface.index, interface.name.clone());
                    console.info(format_args!("capturing on {} now", interface.name));
                    opened.push(rings);
                }
                Err(problem) => {
                    self.refused.insert(interface.name.clone());
                    console.report(&Diagnostic::new(Code::W021, problem.what));
                }
            }
        }
        opened
    }
}
