//! Rings and interfaces on real links, in network namespaces that each test makes and removes. Needs root and
//! iproute2; without them the tests fail with that message.
#![allow(unsafe_code, reason = "a thread enters a namespace with setns(2)")]

mod fanout;
#[path = "../../src/packet/frames.rs"]
mod frames;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine_sys::event::EventFd;
use engine_sys::interfaces::{self, Interface, LinkKind};
use engine_sys::packet::{Instruction, OpenError, RingOptions, RxRing, Trouble, Waiter};

/// A namespace that is removed at the end, with everything in it.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "sys-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        ip(&format!("netns add {name}"));
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    /// `ip` inside.
    fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.0));
    }

    /// Runs `work` on a thread inside.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
                // SAFETY: takes a descriptor that is open and touches no memory.
                let done = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(done, 0, "setns: {}", std::io::Error::last_os_error());
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "these tests need root: ip {arguments}: {error}"
    );
}

/// Two namespaces, `v0` with 10.9.0.1 in the first and `v1` with 10.9.0.2 in the second.
fn pair() -> (Namespace, Namespace) {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.ip(&format!(
        "link add v0 type veth peer name v1 netns {}",
        far.0
    ));
    near.ip("addr add 10.9.0.1/24 dev v0");
    far.ip("addr add 10.9.0.2/24 dev v1");
    near.ip("link set v0 up");
    far.ip("link set v1 up");
    (near, far)
}

/// Sends `count` datagrams of `payload` to `to`.
fn send(to: &str, payload: &[u8], count: usize) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for _ in 0..count {
        socket.send_to(payload, to).unwrap();
    }
}

/// The properties of a captured frame that a test checks.
#[derive(Debug)]
struct Seen {
    bytes: Vec<u8>,
    wire_len: u32,
    seconds: u32,
    vlan: Option<(u16, u16)>,
    outgoing: bool,
}

/// Reads blocks until `enough` or two seconds.
fn collect(ring: &mut RxRing, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let (mut waiter, event) = (Waiter::new(), EventFd::new().unwrap());
    let start = Instant::now();
    let mut seen = Vec::new();
    while start.elapsed() < Duration::from_secs(2) && !enough(&seen) {
        waiter
            .wait([&*ring], &event, Duration::from_millis(50))
            .unwrap();
        while let Some(block) = ring.next_block() {
            let mut frames = block.frames();
            seen.extend(frames.by_ref().map(|frame| Seen {
                bytes: frame.bytes.to_vec(),
                wire_len: frame.wire_len,
                seconds: frame.seconds,
                vlan: frame.vlan_tci.map(|tci| (tci, frame.vlan_tpid)),
                outgoing: frame.outgoing,
            }));
            assert_eq!(frames.left(), 0, "every frame of a block was read");
        }
    }
    seen
}

impl Seen {
    /// A UDP datagram of IPv4 with this payload, and not the ICMP error that quotes it because nobody listens.
    fn carries(&self, payload: &[u8]) -> bool {
        self.bytes.get(23) == Some(&17) && self.bytes.ends_with(payload)
    }
}

fn with(seen: &[Seen], payload: &[u8]) -> usize {
    seen.iter().filter(|frame| frame.carries(payload)).count()
}

fn small() -> RingOptions {
    RingOptions {
        block_bytes: 1 << 16,
        blocks: 8,
        ..RingOptions::default()
    }
}

#[test]
fn frames_arrive_whole_and_once() {
    let (near, far) = pair();
    let mut ring = far
        .run(|| {
            RxRing::open(
                "v1",
                &RingOptions {
                    promiscuous: true,
                    ..small()
                },
            )
        })
        .unwrap();
    near.run(|| send("10.9.0.2:9", b"a payload to find", 100));
    let seen = collect(&mut ring, |seen| with(seen, b"a payload to find") == 100);
    assert_eq!(with(&seen, b"a payload to find"), 100);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for frame in &seen {
        assert_eq!(frame.bytes.len(), frame.wire_len as usize);
        assert!(u64::from(frame.seconds).abs_diff(now) < 5);
        assert_eq!(frame.vlan, None);
    }
    let statistics = ring.statistics().unwrap();
    assert_eq!(
        (statistics.packets, statistics.drops),
        (seen.len() as u64, 0)
    );
    assert_eq!(
        ring.statistics().unwrap(),
        statistics,
        "reading does not reset what we accumulate"
    );
    assert_eq!(ring.bytes(), 8 << 16);
}

#[test]
fn loopback_twice_or_once() {
    let namespace = Namespace::new();
    let (mut both, mut once) = namespace.run(|| {
        let once = RingOptions {
            drop_outgoing: true,
            ..small()
        };
        (
            RxRing::open("lo", &small()).unwrap(),
            RxRing::open("lo", &once).unwrap(),
        )
    });
    namespace.run(|| send("127.0.0.1:9", b"to myself", 10));
    let seen = collect(&mut both, |seen| with(seen, b"to myself") >= 20);
    assert_eq!(
        seen.iter()
            .filter(|frame| frame.outgoing && frame.carries(b"to myself"))
            .count(),
        10
    );
    assert_eq!(with(&seen, b"to myself"), 20);
    let seen = collect(&mut once, |seen| with(seen, b"to myself") >= 10);
    assert_eq!(with(&seen, b"to myself"), 10);
    assert!(seen.iter().all(|frame| !frame.outgoing));
}

#[test]
fn a_vlan_tag_is_data() {
    let (near, far) = pair();
    let mut ring = far.run(|| RxRing::open("v1", &small())).unwrap();
    // Written by hand, for a kernel may lack the VLAN driver and still take tags off what it receives.
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x81, 0x00, 0x00, 42, 0x08, 0x00]);
    frame.resize(60, 0);
    frame.extend(b"tagged payload");
    near.run(|| {
        let mut sender = afpacket::sync::RawPacketStream::new().unwrap();
        sender.bind("v0").unwrap();
        sender.write_all(&frame).unwrap();
    });
    let tagged = |frame: &Seen| frame.bytes.ends_with(b"tagged payload");
    let seen = collect(&mut ring, |seen| seen.iter().any(tagged));
    let frame = seen.iter().find(|frame| tagged(frame)).expect("captured");
    assert_eq!(frame.vlan, Some((42, 0x8100)));
    assert_eq!(
        frame.bytes[12..14],
        [0x08, 0x00],
        "the tag is not in the frame"
    );
}

#[test]
fn filters_replace_each_other() {
    let namespace = Namespace::new();
    let mut ring = namespace
        .run(|| {
            RxRing::open(
                "lo",
                &RingOptions {
                    drop_outgoing: true,
                    ..small()
                },
            )
        })
        .unwrap();
    ring.set_filter(&[Instruction::ret(0)]).unwrap();
    namespace.run(|| send("127.0.0.1:9", b"filtered", 5));
    // Cuts what passes at 20 bytes, so the length of a frame shows which filter it passed.
    ring.set_filter(&[Instruction::ret(20)]).unwrap();
    namespace.run(|| send("127.0.0.1:9", b"passing", 5));
    assert!(ring.set_filter(&[]).is_err());
    assert!(ring.set_filter(&[Instruction::ret(0); 4097]).is_err());
    let jump_too_far = Instruction::jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 9, 9);
    assert!(ring.set_filter(&[jump_too_far]).is_err());

    let passed = |seen: &[Seen]| seen.iter().filter(|frame| frame.wire_len == 42 + 7).count();
    let seen = collect(&mut ring, |seen| passed(seen) >= 5);
    assert_eq!(passed(&seen), 5);
    assert!(
        seen.iter()
            .all(|frame| frame.bytes.len() == 20 && frame.wire_len != 42 + 8 && !frame.outgoing)
    );
}

#[test]
fn a_full_ring_counts_what_it_drops() {
    let namespace = Namespace::new();
    let options = RingOptions {
        block_bytes: 1 << 16,
        blocks: 2,
        drop_outgoing: true,
        ..RingOptions::default()
    };
    let mut ring = namespace.run(|| RxRing::open("lo", &options)).unwrap();
    let payload = [7; 1400];
    assert_eq!((ring.blocks_ready(), ring.blocks()), (0, 2));
    namespace.run(|| send("127.0.0.1:9", &payload, 500));
    // The kernel closes a block after its time at the latest.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(ring.blocks_ready(), 2, "all of it waits");
    let block = ring.next_block().expect("it is ready");
    let first = block.frames().count();
    drop(block);
    assert_eq!(ring.blocks_ready(), 1);
    let seen = (first + collect(&mut ring, |_| false).len()) as u64;
    let statistics = ring.statistics().unwrap();
    assert!(
        statistics.drops > 100 && statistics.freezes > 0,
        "{statistics:?}"
    );
    assert_eq!(statistics.packets, seen + statistics.drops);
    // And it goes on afterwards.
    namespace.run(|| send("127.0.0.1:9", b"after the flood", 1));
    assert_eq!(
        with(
            &collect(&mut ring, |seen| with(seen, b"after the flood") > 0),
            b"after the flood"
        ),
        1
    );
}

#[test]
fn an_interface_goes_down_comes_back_and_goes_away() {
    let (near, far) = pair();
    let mut ring = far.run(|| RxRing::open("v1", &small())).unwrap();
    let (mut waiter, event) = (Waiter::new(), EventFd::new().unwrap());
    let wait_for_trouble = |waiter: &mut Waiter, ring: &RxRing| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            if waiter
                .wait([ring], &event, Duration::from_millis(50))
                .unwrap()
                .trouble
            {
                return ring.trouble();
            }
        }
        panic!("no trouble was reported");
    };

    far.ip("link set v1 down");
    assert_eq!(
        wait_for_trouble(&mut waiter, &ring),
        Some(Trouble::InterfaceDown)
    );
    assert_eq!(ring.trouble(), None, "reported once");
    far.ip("link set v1 up");
    near.run(|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            send("10.9.0.2:9", b"back again", 1);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(
        with(
            &collect(&mut ring, |seen| with(seen, b"back again") > 0),
            b"back again"
        ) > 0
    );

    far.ip("link del v1");
    assert_eq!(
        wait_for_trouble(&mut waiter, &ring),
        Some(Trouble::InterfaceGone)
    );
    assert_eq!(ring.interface_index(), -1);
}

#[test]
fn refusals_name_their_cause() {
    let namespace = Namespace::new();
    namespace.ip("link add dark type veth peer name light");
    let open = |name: &'static str, options: RingOptions| {
        namespace.run(move || RxRing::open(name, &options).err())
    };
    assert_eq!(open("nope", small()), Some(OpenError::NoSuchInterface));
    assert_eq!(open("", small()), Some(OpenError::NoSuchInterface));
    assert_eq!(
        open("a-name-of-16-byt", small()),
        Some(OpenError::NoSuchInterface)
    );
    assert_eq!(open("dark", small()), Some(OpenError::InterfaceDown));
    let invalid = OpenError::Other {
        step: "choosing the ring's size",
        errno: libc::EINVAL,
    };
    assert_eq!(
        open(
            "lo",
            RingOptions {
                block_bytes: usize::MAX,
                ..small()
            }
        ),
        Some(invalid)
    );
}

#[test]
fn an_event_ends_a_wait() {
    let namespace = Namespace::new();
    let ring = namespace.run(|| RxRing::open("lo", &small())).unwrap();
    let (mut waiter, event) = (Waiter::new(), EventFd::new().unwrap());
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            event.set();
        });
        while !waiter
            .wait([&ring], &event, Duration::from_secs(5))
            .unwrap()
            .event
        {}
    });
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(
        !waiter.wait([&ring], &event, Duration::ZERO).unwrap().event,
        "reset by the wait"
    );
}

#[test]
fn a_ring_is_not_inherited() {
    let namespace = Namespace::new();
    let ring = namespace.run(|| RxRing::open("lo", &small())).unwrap();
    let fd = std::os::fd::AsFd::as_fd(&ring).as_raw_fd();
    let mut flags = String::new();
    File::open(format!("/proc/self/fdinfo/{fd}"))
        .unwrap()
        .read_to_string(&mut flags)
        .unwrap();
    let line = flags
        .lines()
        .find(|line| line.starts_with("flags:"))
        .unwrap();
    let bits = u32::from_str_radix(line.rsplit(char::is_whitespace).next().unwrap(), 8).unwrap();
    assert_ne!(bits & libc::O_CLOEXEC as u32, 0);
}

#[test]
fn interfaces_are_listed_with_what_they_are() {
    let namespace = Namespace::new();
    for arguments in [
        "link add br0 type bridge",
        "link add port type veth peer name peer",
        "link set port master br0",
        "link add vx0 type vxlan id 77 dstport 4790 dev port local 10.7.0.1",
        "link add vx1 type vxlan external dstport 4791",
        "addr add 10.7.0.1/24 dev br0",
        "addr add fd00::7/64 dev br0",
        "link set peer mtu 1400",
        "link set br0 up",
        "link set port up",
    ] {
        namespace.ip(arguments);
    }
    let list = namespace.run(interfaces::list).unwrap();
    let find = |name: &str| -> &Interface {
        list.iter()
            .find(|interface| interface.name == name)
            .expect(name)
    };
    assert_eq!(find("br0").kind, LinkKind::Bridge);
    assert!(find("br0").up && find("br0").ethernet && !find("br0").loopback);
    for address in ["10.7.0.1", "fd00::7"] {
        assert!(
            find("br0")
                .addresses
                .contains(&address.parse::<IpAddr>().unwrap()),
            "{:?}",
            find("br0").addresses
        );
    }
    assert_eq!(
        (find("port").kind.clone(), find("port").master),
        (LinkKind::Veth, Some(find("br0").index))
    );
    assert!(find("port").up && !find("port").carrier, "its peer is down");
    assert_eq!(
        (find("peer").up, find("peer").mtu, find("peer").master),
        (false, 1400, None)
    );
    assert_eq!(
        find("vx0").kind,
        LinkKind::Vxlan {
            vni: Some(77),
            port: 4790
        }
    );
    assert_eq!(
        find("vx1").kind,
        LinkKind::Vxlan {
            vni: None,
            port: 4791
        }
    );
    assert!(find("lo").loopback && find("lo").addresses.contains(&IpAddr::from([127, 0, 0, 1])));
}
