//! Fanout groups: several rings that share the frames of one interface or of several, each flow on one of them.
//!
//! All rings start with a filter that drops everything, then join a group, and only then get their filter: no frame is
//! captured twice, and none before the program that steers it. The kernel chooses the group's number, so the group of no
//! other program is joined. The number of rings never changes, since the choice is a remainder by it; and a full ring
//! never overflows into another (`PACKET_FANOUT_FLAG_ROLLOVER`), since that would split flows.
//! Source: Linux v6.12, `net/packet/af_packet.c` (`fanout_add`); packet(7).

mod program;
mod self_test;

use std::fmt;

use libc::{
    PACKET_FANOUT_CBPF, PACKET_FANOUT_FLAG_DEFRAG, PACKET_FANOUT_FLAG_IGNORE_OUTGOING,
    PACKET_FANOUT_FLAG_UNIQUEID, PACKET_FANOUT_HASH,
};

pub use self_test::{SELF_TEST_VNI, SelfTest, self_test};

use super::bpf::Instruction;
use super::filter::PASS_ALL;
use super::ring::{RingOptions, RxRing};
use super::socket::{OpenError, Socket};

/// Most rings in a group: what the kernel gives a group of the plain `PACKET_FANOUT` (`PACKET_FANOUT_MAX` before 5.14).
pub const RINGS_MAX: usize = 256;

/// How the kernel chooses the ring of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// There is one ring.
    Single,
    /// By the innermost flow, through VXLAN and GENEVE, both directions alike.
    InnerFlow,
    /// By the outer flow: the kernel (before 4.3) accepts no program. The two directions of a mirrored flow may be split.
    OuterHash,
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "one ring",
            Self::InnerFlow => "inner-flow steering",
            Self::OuterHash => "outer-hash steering",
        })
    }
}

/// The configuration of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// Rings, 1 to [`RINGS_MAX`].
    pub rings: usize,
    /// UDP ports of VXLAN that the steering dissects; none by default.
    pub vxlan_ports: Vec<u16>,
    /// UDP ports of GENEVE that the steering dissects; none by default.
    pub geneve_ports: Vec<u16>,
    /// The kernel joins IPv4 fragments before it chooses a ring. For a host's own traffic; a mirror does not fragment.
    pub defragment: bool,
    /// Use the kernel's hash of the outer flow.
    pub only_outer: bool,
    /// The filter of every ring; empty lets everything pass.
    pub filter: Vec<Instruction>,
    /// Lock the filter, so that it cannot be replaced.
    pub lock_filter: bool,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            rings: 1,
            vxlan_ports: Vec::new(),
            geneve_ports: Vec::new(),
            defragment: false,
            only_outer: false,
            filter: Vec::new(),
            lock_filter: false,
        }
    }
}

/// Rings that share frames.
pub struct Group {
    /// As many as were requested, in the order of the program's remainder.
    pub rings: Vec<RxRing>,
    /// How a ring is chosen.
    pub steering: Steering,
}

/// Opens rings of this shape on `interface` and steers each flow to one of them.
pub fn open_group(
    interface: &str,
    ring: &RingOptions,
    options: &GroupOptions,
) -> Result<Group, OpenError> {
    open_group_on(Socket::open, Some(interface), ring, options)
}

/// Opens rings that take the frames of all interfaces that [`GroupOptions::filter`] lets in, such as a program of
/// [`FrameFilter::program_for`](super::FrameFilter::program_for). So the memory is there for whichever interface is busy, and
/// the time to open and close does not grow with their number: each ring costs the kernel two grace periods.
pub fn open_shared_group(ring: &RingOptions, options: &GroupOptions) -> Result<Group, OpenError> {
    open_group_on(Socket::open, None, ring, options)
}

/// Packet sockets opened in advance, for interfaces that come after the capability to open more was given up. They
/// receive nothing and cost a descriptor each.
pub struct Reserve(Vec<Socket>);

impl Reserve {
    /// `count` sockets, or as many of them as this process may have descriptors.
    pub fn new(count: usize) -> Self {
        Self((0..count).map_while(|_| Socket::unbound().ok()).collect())
    }

    /// Sockets left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// As [`open_group`], with sockets from the reserve: [`OpenError::NoCapability`] when it has too few.
    pub fn open_group(
        &mut self,
        interface: &str,
        ring: &RingOptions,
        options: &GroupOptions,
    ) -> Result<Group, OpenError> {
        let take = || self.0.pop().ok_or(OpenError::NoCapability);
        open_group_on(take, Some(interface), ring, options)
    }
}

fn open_group_on(
    mut open: impl FnMut() -> Result<Socket, OpenError>,
    interface: Option<&str>,
    ring: &RingOptions,
    options: &GroupOptions,
) -> Result<Group, OpenError> {
    let count = options.rings.clamp(1, RINGS_MAX);
    let mut rings = Vec::with_capacity(count);
    for _ in 0..count {
        rings.push(RxRing::closed(open()?, interface, ring)?);
    }
    let steering = match rings.split_first() {
        Some((first, others)) if !others.is_empty() => {
            join(first, others, ring.drop_outgoing, options)?
        }
        _ => Steering::Single,
    };
    for ring in &mut rings {
        let filter = match options.filter.as_slice() {
            [] => PASS_ALL,
            filter => filter,
        };
        ring.set_filter(filter)
            .map_err(|error| OpenError::from("attaching a filter", &error))?;
        if options.lock_filter {
            ring.lock_filter()
                .map_err(|error| OpenError::from("locking the filter", &error))?;
        }
    }
    Ok(Group { rings, steering })
}

/// Forms the group with the first ring, gives it its program, then lets the others join.
fn join(
    first: &RxRing,
    others: &[RxRing],
    ignore_outgoing: bool,
    options: &GroupOptions,
) -> Result<Steering, OpenError> {
    let mut flags = 0;
    if options.defragment {
        flags |= PACKET_FANOUT_FLAG_DEFRAG;
    }
    if ignore_outgoing {
        // It spares the work of the ring's filter, which drops them anyhow: kernels before 4.20 do not have the flag.
        flags |= PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    }
    let (mode, steering) = match steer_by_program(first, flags, options) {
        Ok(()) => (PACKET_FANOUT_CBPF, Steering::InnerFlow),
        Err(Refused::Program) => {
            let unique = flags | PACKET_FANOUT_FLAG_UNIQUEID;
            first
                .socket()
                .join_fanout((PACKET_FANOUT_HASH | unique) << 16)
                .map_err(|error| OpenError::from("forming a fanout group", &error))?;
            (PACKET_FANOUT_HASH, Steering::OuterHash)
        }
        Err(Refused::Other(error)) => return Err(error),
    };
    let read = first
        .socket()
        .fanout()
        .map_err(|error| OpenError::from("reading the fanout group", &error))?;
    let group = (read & 0xffff) | (mode | flags) << 16;
    for ring in others {
        ring.socket()
            .join_fanout(group)
            .map_err(|error| OpenError::from("joining the fanout group", &error))?;
    }
    Ok(steering)
}

enum Refused {
    /// The kernel accepts no program; the socket is in no group.
    Program,
    Other(OpenError),
}

fn steer_by_program(first: &RxRing, flags: u32, options: &GroupOptions) -> Result<(), Refused> {
    if options.only_outer {
        return Err(Refused::Program);
    }
    let Ok(program) = program::inner_flow(&options.vxlan_ports, &options.geneve_ports) else {
        // Some thousand tunnel ports: no program is that long.
        return Err(Refused::Program);
    };
    let group = (PACKET_FANOUT_CBPF | flags | PACKET_FANOUT_FLAG_UNIQUEID) << 16;
    match first.socket().join_fanout(group) {
        // A kernel before 4.3 does not have the mode.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Err(Refused::Program),
        joined => joined
            .map_err(|error| Refused::Other(OpenError::from("forming a fanout group", &error)))?,
    }
    first
        .socket()
        .set_fanout_program(&program)
        .map_err(|error| Refused::Other(OpenError::from("loading the fanout program", &error)))
}
