//! Several sinks behind one shard: what they share, who holds it, and when its memory comes back.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_core::bundle::Bundle;

use super::discard::Discard;
use super::http::Http;
use super::kind::Sink;
use super::outbox::{Inboxes, Outbox, outboxes};
use super::outlet::{Discarder, Outlet, Outlets};
use super::shared::Lease;
use super::stats::Detail;
use super::writing::{self, Target, Write};
use super::{Placed, Sinks};
use crate::capture_url::CaptureUrls;
use crate::config::Proxies;
use crate::counters::OutletCounters;
use crate::diagnostic::{Code, Colour, Console};

/// The ends of `count` sinks at one shard, and the sinks' own.
fn sinks(count: usize) -> (Outlets, Vec<Inboxes>) {
    let each = (0..count).map(|_| {
        let (mut outboxes, inboxes): (Vec<Outbox>, Inboxes) = outboxes(1).unwrap();
        (Outlet::Outbox(outboxes.remove(0)), inboxes)
    });
    let (outlets, inboxes): (Vec<Outlet>, Vec<Inboxes>) = each.unzip();
    let outlets = outlets.into_iter().enumerate();
    (Outlets::new(outlets.collect()), inboxes)
}

/// What was done for all sinks together.
fn sum(outlets: &Outlets) -> OutletCounters {
    let mut sum = OutletCounters::default();
    for (_, counters) in outlets.counters() {
        sum.add(&counters);
    }
    sum
}

fn bundle(body: Vec<u8>, id: u128) -> Bundle {
    Bundle {
        body,
        calls: 3,
        id,
        ..Bundle::default()
    }
}

#[test]
fn two_sinks_share_one_bundle_and_the_slower_holds_it() {
    for slower in [0, 1] {
        let (mut outlets, mut sinks) = sinks(2);
        let body = vec![7; 1000];
        let address = body.as_ptr();
        outlets.push(bundle(body, 1));
        outlets.send();
        let mut leases: Vec<Lease> = (sinks.iter_mut())
            .map(|sink| sink.inboxes[0].take().unwrap())
            .collect();
        assert!(leases.iter().all(|lease| lease.body().as_ptr() == address));

        let (first, last) = (1 - slower, slower);
        let last_lease = leases.remove(last);
        sinks[first].inboxes[0].give_back(leases.remove(0));
        outlets.send();
        assert!(outlets.take_empty().is_none(), "the slower one holds it");
        assert_eq!(&last_lease.body()[..], [7; 1000]);
        sinks[last].inboxes[0].give_back(last_lease);
        outlets.send();
        let empty = outlets.take_empty().unwrap().body;
        assert_eq!((empty.as_ptr(), empty.len()), (address, 0));
        assert!(outlets.take_empty().is_none(), "once");
    }
}

#[test]
fn a_body_in_the_hands_of_the_kernel_is_not_reused() {
    let (mut outlets, mut sinks) = sinks(1);
    outlets.push(bundle(vec![7; 10], 1));
    outlets.send();
    let lease = sinks[0].inboxes[0].take().unwrap();
    let body = lease.body().slice(5..);
    sinks[0].inboxes[0].give_back(lease);
    outlets.send();
    assert!(outlets.take_empty().is_none());
    assert_eq!(&body[..], [7; 5]);
    drop(body);
    assert!(outlets.take_empty().is_some());
}

#[test]
fn a_sink_that_takes_nothing_sheds_its_own_calls_alone() {
    let (mut outlets, mut sinks) = sinks(2);
    for id in 0..100 {
        outlets.push(bundle(vec![1], id));
        outlets.send();
        let lease = sinks[1].inboxes[0].take().unwrap();
        assert_eq!(lease.bundle().id, id);
        sinks[1].inboxes[0].give_back(lease);
    }
    let column = |sink: usize| &sinks[sink].columns[0];
    assert_eq!((column(1).calls_pushed(), column(1).calls_shed()), (300, 0));
    let (pushed, shed) = (column(0).calls_pushed(), column(0).calls_shed());
    assert!(shed > 0 && pushed > 0);
    let counters = sum(&outlets);
    assert_eq!(pushed + shed + counters.calls_waiting, 300);
    assert_eq!(counters.calls_pushed, 300 + pushed);
    assert_eq!(outlets.fill(), 1.0);
    outlets.shed_all();
    assert!(outlets.is_empty());
    assert_eq!(sum(&outlets).calls_waiting, 0);
}

#[test]
fn what_is_discarded_is_counted_and_comes_back_at_once() {
    let discarder = Discarder::default();
    let column = discarder.column();
    let mut outlets = Outlets::new(vec![(0, Outlet::Discard(discarder))]);
    outlets.push(bundle(vec![1], 1));
    assert!(outlets.take_empty().is_some());
    assert!(outlets.is_empty());
    assert_eq!(outlets.fill(), 0.0);
    assert_eq!(sum(&outlets).calls_withheld, 3);
    assert_eq!(column.calls_withheld(), 3);
}

#[test]
fn a_steady_state_makes_no_new_memory() {
    let (mut outlets, mut sinks) = sinks(2);
    let (mut bodies, mut places) = (HashSet::new(), HashSet::new());
    let mut spare = Vec::with_capacity(100);
    for id in 0..1000 {
        spare.extend_from_slice(&[1; 100]);
        outlets.push(bundle(spare, id));
        outlets.send();
        for sink in &mut sinks {
            let lease = sink.inboxes[0].take().unwrap();
            bodies.insert(lease.bundle().body.as_ptr().addr());
            places.insert(std::ptr::from_ref(lease.bundle()).addr());
            sink.inboxes[0].give_back(lease);
        }
        outlets.send();
        spare = outlets.take_empty().unwrap().body;
    }
    assert_eq!((bodies.len(), places.len()), (1, 1));
}

/// splitmix64, for choices that a seed repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// What a simulated sink holds.
#[derive(Default)]
struct Holding {
    leases: Vec<Lease>,
    /// Bytes that outlive their lease, and the bundle that they are of.
    bytes: Vec<(Bytes, u128)>,
}

impl Holding {
    #[track_caller]
    fn check(&self) {
        let leases = self
            .leases
            .iter()
            .map(|lease| (lease.body(), lease.bundle().id));
        for (body, id) in leases.chain(self.bytes.iter().cloned()) {
            assert_eq!(&body[..], id.to_le_bytes(), "overwritten while it is held");
        }
    }
}

/// Sinks of any speed take, keep, release and drop in any order: what one holds stays as it is, and each buffer comes back
/// at most once for each use.
fn simulate(seed: u64) {
    let mut dice = Dice(seed);
    let count = 1 + dice.below(4);
    let (mut outlets, mut sinks) = sinks(count);
    let mut holdings: Vec<Holding> = (0..count).map(|_| Holding::default()).collect();
    let mut spare: Vec<Vec<u8>> = Vec::new();
    // Buffers that are out, by address.
    let mut out: HashSet<usize> = HashSet::new();
    let (mut next, mut returned) = (0_u128, 0_u128);
    for _ in 0..2000 {
        let sink = dice.below(count);
        let holding = &mut holdings[sink];
        match dice.below(6) {
            0 => {
                let mut body = spare.pop().unwrap_or_default();
                assert!(body.is_empty());
                body.extend_from_slice(&next.to_le_bytes());
                out.insert(body.as_ptr().addr());
                outlets.push(bundle(body, next));
                next += 1;
            }
            1 => outlets.send(),
            2 => holding.leases.extend(sinks[sink].inboxes[0].take()),
            3 if !holding.leases.is_empty() => {
                let lease = holding.leases.swap_remove(dice.below(holding.leases.len()));
                if dice.below(3) == 0 {
                    holding.bytes.push((lease.body(), lease.bundle().id));
                }
                match dice.below(20) {
                    // The sink has ended with it.
                    0 => drop(lease),
                    _ => sinks[sink].inboxes[0].give_back(lease),
                }
            }
            4 if !holding.bytes.is_empty() => {
                holding.bytes.swap_remove(dice.below(holding.bytes.len()));
            }
            _ => {
                while let Some(empty) = outlets.take_empty() {
                    assert!(out.remove(&empty.body.as_ptr().addr()), "twice");
                    returned += 1;
                    spare.push(empty.body);
                }
            }
        }
        holdings.iter().for_each(Holding::check);
    }
    assert!(returned > 0 && returned <= next, "{returned} of {next}");
}

#[test]
fn whatever_sinks_do_no_buffer_is_reused_too_soon() {
    for seed in 0..300 {
        simulate(seed);
    }
}

#[test]
fn a_sink_that_is_down_holds_up_neither_the_other_nor_the_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/message", listener.local_addr().unwrap());
    drop(listener);
    let down = Http::new(
        "down".to_owned(),
        CaptureUrls::parse(&url).unwrap(),
        &Proxies::default(),
    );
    let other = Discard::new("other".to_owned(), "a test".to_owned());
    let sinks: [Box<dyn Sink>; 2] = [Box::new(down), Box::new(other)];
    let placed = sinks.map(|sink| Placed { rule_set: 0, sink });
    let sinks = Sinks(placed.into());
    let console = Console::new(Colour::Never, true);
    let (mut outlets, running) = sinks.start(1, 1, console).unwrap();
    let outlets = &mut outlets[0];
    for id in 0..500 {
        outlets[0].push(bundle(vec![1; 100], id));
        outlets[0].send();
    }
    let monitors = running.monitors();
    let start = Instant::now();
    running.stop(start + Duration::from_millis(200));
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "it waits for the sink that is down"
    );
    let [down, other] = [0, 1].map(|sink: usize| monitors[sink].1.snapshot());
    assert_eq!(other.calls_withheld, 1500);
    assert_eq!((down.name.as_str(), down.place), ("down", url));
    let waiting = sum(&outlets[0]).calls_waiting;
    assert_eq!(down.calls_pushed + down.calls_shed + waiting, 1500);
    let counters = down.counters;
    assert_eq!((counters.calls_sent, down.calls_in_flight), (0, 0));
    assert_eq!(counters.calls_dropped(), down.calls_pushed);
}

/// A target that takes nothing, and of which nobody hears when it would.
struct Stuck;

impl Target for Stuck {
    fn write(&mut self, _lines: &[u8], _calls: u64, _now: Instant) -> Write {
        Write::Blocked
    }
}

#[test]
fn a_second_deadline_ends_a_sink_whose_reader_reads_nothing() {
    let config = writing::Config {
        name: "stuck".to_owned(),
        place: "stuck".to_owned(),
        description: String::new(),
        code: Code::W058,
        bundles_max: 10,
        bytes_max: 1 << 20,
    };
    let console = Console::new(Colour::Never, true);
    let mut started = writing::start(config, Stuck, Detail::default, 1, console).unwrap();
    let mut outlets = Outlets::new(vec![(0, started.outlets.remove(0))]);
    outlets.push(bundle(b"line\n".to_vec(), 1));
    outlets.send();
    let mut running = started.running;
    let monitor = running.monitor();
    let begun = Instant::now();
    running.begin_stop(begun + Duration::from_hours(1));
    // It has taken the bundle, and has seen the first order.
    while monitor.snapshot().calls_in_flight == 0 || begun.elapsed() < Duration::from_millis(50) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!running.has_ended(), "there is an hour to wait");
    running.begin_stop(Instant::now());
    running.wait();
    let counters = monitor.snapshot().counters;
    assert_eq!(
        (counters.calls_sent, counters.calls_dropped_shutdown),
        (0, 3)
    );
}
