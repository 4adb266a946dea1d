//! Interfaces that appear after the start: those that return and, if no names are given, new ones.
//!
//! An interface that goes down and up keeps its ring and is only reported. The list of interfaces is read only when
//! the kernel reports a change. An interface on which packets would be seen twice is not captured: one behind which the
//! kernel removes a VXLAN that decapsulation removes as well.

use std::collections::{BTreeMap, BTreeSet};

use engine_sys::interfaces::{self, Changes, Interface};

use super::interfaces::{Choice, choose};
use super::orders;
use super::rings::{Opened, Opener};
use crate::config::{Capture, CaptureMode};
use crate::diagnostic::{Code, Console, Diagnostic};

/// The interfaces that are captured, and those that should be.
pub struct Hotplug {
    wanted: Vec<String>,
    mode: CaptureMode,
    kernel_vxlan_ports: Vec<u16>,
    /// Interfaces that are captured, by index: a ring follows its interface under another name, and not to another one of
    /// the same name.
    captured: BTreeMap<u32, Captured>,
    /// Names of those that were named and are gone.
    gone: BTreeSet<String>,
    /// Why those that could not be opened are not captured, by name.
    refused: BTreeMap<String, Diagnostic>,
    opener: Opener,
    changes: Changes,
    /// Something may have changed since the interfaces were last listed.
    is_due: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Captured {
    name: String,
    is_up: bool,
}

/// The interfaces as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Names of those that are captured and up.
    pub captured: Vec<String>,
    /// Those that should be captured and cannot be now.
    pub problems: Vec<Diagnostic>,
}

/// What the shards have to do.
#[derive(Default)]
pub struct Change {
    /// To read these rings as well.
    pub rings: Vec<Opened>,
    /// To read these interfaces in the ring that they share.
    pub shared: Option<orders::Interfaces>,
    /// The interfaces as they are now; none if nothing changed.
    pub interfaces: Option<Interfaces>,
}

impl Hotplug {
    /// Starts from `choice`, which is captured by now.
    pub fn new(config: &Capture, choice: &Choice, mut opener: Opener) -> Result<Self, Diagnostic> {
        let changes = Changes::new().map_err(|error| {
            Diagnostic::new(Code::E090, format!("cannot follow interfaces: {error}"))
                .cause("rtnetlink(7) refused")
        })?;
        opener.capability_is_gone();
        Ok(Self {
            wanted: config.settings.interfaces.clone(),
            mode: config.settings.mode,
            kernel_vxlan_ports: choice.kernel_vxlan_ports.clone(),
            captured: choice.interfaces.iter().map(captured).collect(),
            gone: BTreeSet::new(),
            refused: BTreeMap::new(),
            opener,
            changes,
            // Something may have changed between the choice and the start of the notifications.
            is_due: true,
        })
    }

    /// Notes that a shard saw a change; the kernel notifies a ring of a deletion only if its interface was up until then.
    pub fn note_change(&mut self) {
        self.is_due = true;
    }

    /// Opens what appeared, and reports what changed.
    pub fn changes(&mut self, console: Console) -> Change {
        // First, so that all notifications up to now are consumed in either case.
        let has_changed = self.changes.any();
        if !std::mem::take(&mut self.is_due) && !has_changed {
            return Change::default();
        }
        let Ok(all) = interfaces::list() else {
            self.is_due = true;
            return Change::default();
        };
        let before = self.captured.clone();
        self.note_gone(&all, console);
        self.note_state(&all, console);
        self.refused
            .retain(|name, _| all.iter().any(|interface| &interface.name == name));
        let mut change = Change::default();
        // An error means that no interface is up, or that one is missing: both may change.
        if let Ok(choice) = choose(&self.wanted, self.mode, &all)
            && !self.is_seen_twice(&choice)
        {
            change.rings = self.open_new(&choice, console);
            if self.opener.is_shared() {
                self.leave_out_others(&choice, &all);
            }
        }
        if self.captured != before {
            change.interfaces = Some(self.interfaces());
            if self.opener.is_shared() {
                change.shared = self.shared(&all, console);
            }
        }
        change
    }

    /// The interfaces as they are now.
    fn interfaces(&self) -> Interfaces {
        let captured = self.captured.values();
        let down = captured
            .clone()
            .filter(|interface| !interface.is_up)
            .map(|interface| is_down(&interface.name));
        let gone = self.gone.iter().map(|name| is_gone(name));
        let refused = self.refused.values().cloned();
        Interfaces {
            captured: captured
                .filter(|interface| interface.is_up)
                .map(|interface| interface.name.clone())
                .collect(),
            problems: down.chain(gone).chain(refused).collect(),
        }
    }

    fn note_gone(&mut self, all: &[Interface], console: Console) {
        let Self {
            captured,
            gone,
            wanted,
            ..
        } = self;
        captured.retain(|&index, Captured { name, .. }| {
            let is_there = all.iter().any(|interface| interface.index == index);
            if !is_there && wanted.is_empty() {
                console.info(format_args!("{name} is gone"));
            } else if !is_there {
                console.report(&is_gone(name));
                gone.insert(name.clone());
            }
            is_there
        });
    }

    fn note_state(&mut self, all: &[Interface], console: Console) {
        for interface in all {
            let Some(captured) = self.captured.get_mut(&interface.index) else {
                continue;
            };
            if captured.is_up && !interface.up {
                console.report(&is_down(&interface.name));
            } else if !captured.is_up && interface.up {
                console.info(format_args!("capturing on {} again", interface.name));
            }
            captured.is_up = interface.up;
            captured.name.clone_from(&interface.name);
        }
    }

    /// Whether packets of the choice would be seen on another interface as well, in a VXLAN that the kernel removes.
    fn is_seen_twice(&self, choice: &Choice) -> bool {
        let is_new = |port| !self.kernel_vxlan_ports.contains(port);
        choice.kernel_vxlan_ports.iter().any(is_new)
    }

    fn open_new(&mut self, choice: &Choice, console: Console) -> Vec<Opened> {
        let mut opened = Vec::new();
        for interface in &choice.interfaces {
            if self.captured.contains_key(&interface.index)
                || self.refused.contains_key(&interface.name)
            {
                continue;
            }
            if !self.opener.is_shared() {
                match self.opener.open(interface) {
                    Ok(rings) => opened.push(rings),
                    Err(problem) => {
                        let problem = Diagnostic {
                            code: Code::W021,
                            ..problem
                        };
                        console.report(&problem);
                        self.refused.insert(interface.name.clone(), problem);
                        continue;
                    }
                }
            }
            self.captured.extend([captured(interface)]);
            self.gone.remove(&interface.name);
            console.info(format_args!("capturing on {} now", interface.name));
        }
        opened
    }

    /// A shared ring stops to read an interface whose packets now pass another one, such as a new port of a bridge.
    fn leave_out_others(&mut self, choice: &Choice, all: &[Interface]) {
        self.captured.retain(|index, _| {
            let is_chosen = (choice.interfaces.iter()).any(|chosen| chosen.index == *index);
            let is_down = (all.iter()).any(|interface| interface.index == *index && !interface.up);
            is_chosen || is_down
        });
    }

    fn shared(&self, all: &[Interface], console: Console) -> Option<orders::Interfaces> {
        let is_captured = |interface: &&Interface| self.captured.contains_key(&interface.index);
        let captured: Vec<Interface> = all.iter().filter(is_captured).cloned().collect();
        let shared = self.opener.interfaces(&captured);
        shared.inspect_err(|problem| console.report(problem)).ok()
    }
}

fn captured(interface: &Interface) -> (u32, Captured) {
    let captured = Captured {
        name: interface.name.clone(),
        is_up: interface.up,
    };
    (interface.index, captured)
}

fn is_down(name: &str) -> Diagnostic {
    Diagnostic::new(
        Code::W021,
        format!("{name} went down; capturing on it again once it is up"),
    )
    .fix(format!("ip link set {name} up"))
}

fn is_gone(name: &str) -> Diagnostic {
    let what = format!("{name} is gone; capturing on it again once it is back");
    Diagnostic::new(Code::W021, what)
}
