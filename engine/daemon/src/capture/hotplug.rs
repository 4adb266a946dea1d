//! Interfaces that appear after the start: those that return and, if no names are given, new ones.
//!
//! An interface that goes down and up keeps its rings and needs nothing of this. The list of interfaces is read only when
//! the kernel reports a change. An interface on which packets would be seen twice is not captured: one behind which the
//! kernel removes a VXLAN that decapsulation removes as well.

use std::collections::{BTreeMap, BTreeSet};

use engine_sys::interfaces::{self, Changes};

use super::interfaces::{Choice, choose};
use super::rings::{Opened, Opener};
use crate::config::{Capture, CaptureMode};
use crate::diagnostic::{Code, Console, Diagnostic};

/// The interfaces that are captured, and those that should be.
pub struct Hotplug {
    wanted: Vec<String>,
    mode: CaptureMode,
    kernel_vxlan_ports: Vec<u16>,
    /// Interfaces with rings, by index: a ring follows its interface under another name, and not to another one of the
    /// same name.
    captured: BTreeMap<u32, String>,
    /// Names of those that could not be opened, reported once.
    refused: BTreeSet<String>,
    opener: Opener,
    changes: Changes,
    /// Something may have changed since the interfaces were last listed.
    is_due: bool,
}

impl Hotplug {
    /// Starts from `choice`, which is captured by now.
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

    /// Notes that a shard saw a change; the kernel notifies a ring of a deletion only if its interface was up until then.
    pub fn note_change(&mut self) {
        self.is_due = true;
    }

    /// Opens rings on interfaces that appeared.
    pub fn new_rings(&mut self, console: Console) -> Vec<Opened> {
        // First, so that all notifications up to now are consumed in either case.
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
                let what = format!("{name} is gone; capturing on it again once it is back");
                console.report(&Diagnostic::new(Code::W021, what));
            }
            is_there
        });
        self.refused
            .retain(|name| all.iter().any(|interface| &interface.name == name));
        // An error means that no interface is up, or that one is missing: both may change.
        let Ok(choice) = choose(&self.wanted, self.mode, &all) else {
            return Vec::new();
        };
        let is_new = |port| !self.kernel_vxlan_ports.contains(port);
        if choice.kernel_vxlan_ports.iter().any(is_new) {
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
