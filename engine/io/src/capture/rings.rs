//! The rings of the shards, with the steering between them and the filter in front of them.
//!
//! By default a shard has one ring, which all interfaces share: the memory is there for whichever interface is busy, and
//! start and stop take the same time however many there are. Its filter knows the interfaces, and is replaced when they
//! change, so it is not locked. A few interfaces that are named have a ring each, with equal parts of the memory; those of
//! them that come back later take sockets from a reserve, since the capability to open new ones is given up by then.

use std::net::SocketAddr;

use engine_core::decap;
use engine_sys::interfaces::Interface;
use engine_sys::packet::{
    AssembleError, FrameFilter, Group, GroupOptions, Instruction, Member, OpenError, Reserve,
    RingOptions, SelfTest, Steering, open_group, open_shared_group, self_test,
};
use engine_sys::process;

use super::interfaces::Choice;
use super::orders::Interfaces;
use super::source::Source;
use crate::config::{self, Capture, CaptureMode};
use crate::diagnostic::{Code, Diagnostic};
use crate::limits::{RING_BLOCK_BYTES_MIN, RING_BLOCKS_MIN};
use crate::pipeline::{RulesShare, pipeline_config};
use crate::process::{is_in_container, status_value};

/// Bytes of one block of a ring: four times the longest frame that receive offload merges. The kernel retires a block
/// after 10 ms, full or not, so at moderate rates the number of blocks determines for how long a shard may be delayed:
/// 128 blocks are more than a second; 32 of 1 MiB in the same memory were 0.3 s, and calls were lost on a busy machine.
const BLOCK_BYTES: usize = 256 << 10;

/// Named interfaces that have a ring each; more of them share one.
const RINGS_APART_MAX: usize = 4;

/// Interfaces that may come back after the start, each with a socket for every shard.
const RETURNS_MAX: usize = 64;

/// Sockets of the reserve: each is an open file, of which a process usually may have 1024.
const RESERVE_MAX: usize = 256;

/// Opens rings.
pub struct Opener {
    ring: RingOptions,
    group: GroupOptions,
    filter: FrameFilter,
    reserve: Reserve,
    has_capability: bool,
    is_shared: bool,
}

/// Rings of one interface, or of all, one for each shard.
pub struct Opened {
    /// In the order of the shards.
    pub sources: Vec<Source>,
    /// How a flow finds its shard.
    pub steering: Steering,
}

impl Opener {
    /// What all interfaces have in common. `own` are the end points of self traffic, not to be captured.
    pub fn new(config: &Capture, choice: &Choice, own: &[SocketAddr]) -> Self {
        let is_shared = is_shared(&config.settings.interfaces, choice.interfaces.len());
        let rings = if is_shared {
            1
        } else {
            choice.interfaces.len()
        };
        let budget = config.settings.ring_bytes / rings.max(1);
        let block_bytes = (budget / RING_BLOCKS_MIN).clamp(RING_BLOCK_BYTES_MIN, BLOCK_BYTES);
        let decap = pipeline_config(
            &config.settings,
            &config.host,
            &choice.kernel_vxlan_ports,
            1,
            RulesShare::default(),
        )
        .decap;
        Self {
            ring: RingOptions {
                block_bytes,
                blocks: (budget / block_bytes).max(RING_BLOCKS_MIN),
                promiscuous: config.settings.promiscuous,
                ..RingOptions::default()
            },
            group: GroupOptions {
                rings: config.settings.shards,
                vxlan_ports: config.settings.vxlan_ports.clone(),
                geneve_ports: decap.geneve_ports.clone(),
                // A mirror cuts packets and does not fragment them. Fragments of a host are joined before ports are compared.
                defragment: config.settings.mode == CaptureMode::Interfaces,
                lock_filter: !is_shared,
                ..GroupOptions::default()
            },
            filter: filter(config, &decap, own),
            reserve: Reserve::new(if is_shared {
                0
            } else {
                (config.settings.shards * RETURNS_MAX).min(RESERVE_MAX)
            }),
            has_capability: true,
            is_shared,
        }
    }

    /// Tries whether this kernel steers as it should, before anything is captured.
    pub fn self_test(&self) -> SelfTest {
        if self.group.rings == 1 {
            return SelfTest::NotRun;
        }
        self_test(&self.group)
    }

    /// The capability is given up: from now on sockets come from the reserve.
    pub fn capability_is_gone(&mut self) {
        self.has_capability = false;
    }

    /// Whether all interfaces share the rings.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Opens the rings of all interfaces of the choice.
    pub fn open_all(&mut self, interfaces: &[Interface]) -> Result<Vec<Opened>, Diagnostic> {
        if self.is_shared {
            return Ok(vec![self.open_shared(interfaces)?]);
        }
        interfaces
            .iter()
            .map(|interface| self.open(interface))
            .collect()
    }

    /// Opens one ring per shard that `interfaces` share.
    fn open_shared(&self, interfaces: &[Interface]) -> Result<Opened, Diagnostic> {
        let group = GroupOptions {
            filter: self.shared_program(interfaces)?,
            ..self.group.clone()
        };
        let Group {
            mut rings,
            steering,
        } = open_shared_group(&self.ring, &group)
            .map_err(|error| cannot_open("all interfaces", &error))?;
        if self.ring.promiscuous
            && let Some(ring) = rings.first_mut()
        {
            for interface in interfaces {
                ring.set_promiscuous(&interface.name)
                    .map_err(|error| cannot_open(&interface.name, &error))?;
            }
        }
        Ok(Opened {
            sources: rings.into_iter().map(Source::shared).collect(),
            steering,
        })
    }

    /// What a shard needs to read `interfaces` in its shared ring.
    pub fn interfaces(&self, interfaces: &[Interface]) -> Result<Interfaces, Diagnostic> {
        let names = interfaces.iter().map(|interface| interface.name.clone());
        Ok(Interfaces {
            program: self.shared_program(interfaces)?.into(),
            promiscuous: names.filter(|_| self.ring.promiscuous).collect(),
        })
    }

    fn shared_program(&self, interfaces: &[Interface]) -> Result<Vec<Instruction>, Diagnostic> {
        let members: Vec<Member> = interfaces
            .iter()
            .map(|interface| Member {
                index: interface.index,
                bare_ip: !interface.ethernet,
                drop_outgoing: interface.loopback,
            })
            .collect();
        self.shortened(|filter| filter.program_for(&members))
    }

    /// Opens one ring per shard on `interface`.
    pub fn open(&mut self, interface: &Interface) -> Result<Opened, Diagnostic> {
        let ring = RingOptions {
            drop_outgoing: interface.loopback,
            ..self.ring
        };
        let group = GroupOptions {
            filter: self.program(interface)?,
            ..self.group.clone()
        };
        let opened = if self.has_capability {
            open_group(&interface.name, &ring, &group)
        } else {
            self.reserve.open_group(&interface.name, &ring, &group)
        };
        let Group { rings, steering } = opened.map_err(|error| match error {
            OpenError::NoCapability if !self.has_capability => reserve_is_used_up(interface),
            error => cannot_open(&interface.name, &error),
        })?;
        let sources = rings.into_iter().enumerate();
        Ok(Opened {
            sources: sources
                .map(|(shard, ring)| Source::new(interface, ring, shard == 0))
                .collect(),
            steering,
        })
    }

    /// The filter of one interface as a program.
    fn program(&self, interface: &Interface) -> Result<Vec<Instruction>, Diagnostic> {
        self.shortened(|filter| {
            FrameFilter {
                bare_ip: !interface.ethernet,
                ..filter.clone()
            }
            .program()
        })
    }

    /// The filter as a program. If it is too long, the parts that decapsulation checks as well are left out.
    fn shortened(
        &self,
        program: impl Fn(&FrameFilter) -> Result<Vec<Instruction>, AssembleError>,
    ) -> Result<Vec<Instruction>, Diagnostic> {
        let short = || FrameFilter {
            tcp_ports: None,
            udp_ports: None,
            without: Vec::new(),
            ..self.filter.clone()
        };
        program(&self.filter)
            .or_else(|_| program(&short()))
            .map_err(|error| {
                Diagnostic::new(Code::E002, format!("the filter is too long: {error}"))
                    .fix("a shorter --bpf")
            })
    }
}

/// Whether all interfaces share a ring: they are not named one by one, or they are many.
fn is_shared(wanted: &[String], chosen: usize) -> bool {
    let is_open = wanted.is_empty() || wanted.iter().any(|name| name.ends_with('*'));
    is_open || chosen > RINGS_APART_MAX
}

fn filter(config: &Capture, decap: &decap::Config, own: &[SocketAddr]) -> FrameFilter {
    let ports = &config.settings.ports.set;
    let tcp_ports = match config.settings.mode {
        CaptureMode::Mirror => Some(Vec::new()),
        CaptureMode::Interfaces if ports.is_any() => None,
        CaptureMode::Interfaces => Some(ports.ranges().to_vec()),
    };
    FrameFilter {
        bare_ip: false,
        udp_ports: tcp_ports.is_some().then(|| decap.udp_ports()),
        tcp_ports,
        // So that hints can report that there is traffic, and that it is on other ports.
        handshakes: true,
        without: own.to_vec(),
        expression: config.settings.bpf.clone(),
    }
}

fn reserve_is_used_up(interface: &Interface) -> Diagnostic {
    let what = format!(
        "{} is not captured: too many interfaces appeared since the start",
        interface.name
    );
    Diagnostic::new(Code::W021, what).fix("restart sniffer; -i names the interfaces that matter")
}

/// Where a process was started, which decides how it gets a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Docker,
    Kubernetes,
    Service,
    Shell,
}

impl Place {
    fn of_this_process() -> Self {
        let has = |name| std::env::var_os(name).is_some();
        if has("KUBERNETES_SERVICE_HOST") {
            Self::Kubernetes
        } else if is_in_container() {
            Self::Docker
        } else if has("INVOCATION_ID") && has("JOURNAL_STREAM") {
            Self::Service
        } else {
            Self::Shell
        }
    }
}

/// One line for each place, the one that fits `here` first.
fn how_to_get_the_capability(here: Place) -> String {
    let mut lines = [
        (
            Place::Shell,
            "sudo setcap cap_net_raw+ep \"$(command -v sniffer)\"    or run it with sudo",
        ),
        (
            Place::Docker,
            "docker:      docker run --cap-add NET_RAW --network host ...",
        ),
        (
            Place::Kubernetes,
            "kubernetes:  capabilities.add: [\"NET_RAW\"]",
        ),
        (
            Place::Service,
            "systemd:     AmbientCapabilities=CAP_NET_RAW",
        ),
    ];
    // The sort is stable: the others stay in their order.
    lines.sort_by_key(|(place, _)| *place != here);
    lines.map(|(_, line)| line).join("\n")
}

/// The diagnostic for a ring that cannot be opened on an interface.
pub fn cannot_open(name: &str, error: &OpenError) -> Diagnostic {
    match error {
        OpenError::NoCapability if process::has_no_new_privileges() && !config::is_root() => Diagnostic::new(
            Code::E011,
            "may not open a packet socket: CAP_NET_RAW is missing, and no-new-privileges is set, so a file capability is ignored",
        )
        .cause("/proc/self/status has NoNewPrivs: 1 and no CAP_NET_RAW in CapEff")
        .fix("start as root with --cap-drop ALL --cap-add NET_RAW; capabilities are given up once the sockets are open"),
        OpenError::NoCapability => Diagnostic::new(Code::E010, "may not open a packet socket: this process lacks CAP_NET_RAW")
            .cause("socket(AF_PACKET) was refused and CapEff in /proc/self/status has no CAP_NET_RAW")
            .fix(how_to_get_the_capability(Place::of_this_process())),
        OpenError::Forbidden => Diagnostic::new(Code::E012, "blocked by seccomp or SELinux/AppArmor: socket AF_PACKET was refused although CAP_NET_RAW is present")
            .cause(format!("Seccomp mode in /proc/self/status: {}", status_value("Seccomp:")))
            .fix("grep Seccomp /proc/self/status; dmesg | grep -iE 'apparmor|avc'\ndocker run --security-opt seccomp=unconfined ...    to find out whether it is seccomp"),
        OpenError::NoSuchInterface => Diagnostic::new(Code::E020, format!("{name} is gone")).fix("sniffer interfaces"),
        OpenError::InterfaceDown => {
            Diagnostic::new(Code::E020, format!("{name} is down")).fix(format!("ip link set {name} up"))
        }
        OpenError::NoMemory => Diagnostic::new(Code::E090, format!("no memory for the ring on {name}")).fix("--ring-size 4M"),
        other => Diagnostic::new(Code::E090, format!("cannot capture on {name}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_fits_the_place_is_first() {
        let first = |place| {
            let lines = how_to_get_the_capability(place);
            assert_eq!(lines.lines().count(), 4);
            lines.lines().next().unwrap_or_default().to_owned()
        };
        assert!(first(Place::Shell).starts_with("sudo setcap"));
        assert!(first(Place::Docker).starts_with("docker:"));
        assert!(first(Place::Kubernetes).starts_with("kubernetes:"));
        assert!(first(Place::Service).starts_with("systemd:"));
    }
}
