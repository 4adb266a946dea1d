//! Faults that no other message names: the counters show them, and calls are incomplete or missing because of them.
//!
//! They are computed from the counters alone, so a live capture and `sniffer read` can both report them.

use crate::counters::Stages;
use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::{bytes, plural, thousands};

/// Messages of one side, without the other, before it is a fault: a capture that starts meets some.
const ONE_SIDED_MIN: u64 = 20;

/// What one side must have more of than the other, to be the only one.
const ONE_SIDED_FACTOR: u64 = 20;

/// Gaps before they are a fault: at the start of a capture, and where connections break, there are some.
const GAPS_MIN: u64 = 10;

/// Missing bytes are a fault from this part of the captured ones on: one in a thousand.
const GAP_SHARE: u64 = 1000;

/// Calls with an unknown path are a fault from this part of all calls on: one in a hundred.
const UNKNOWN_SHARE: u64 = 100;

/// The faults that the counters show.
pub fn faults(stages: &Stages) -> Vec<Diagnostic> {
    [
        one_direction(stages),
        directions_apart(stages),
        joined_late(stages),
        cut(stages),
        lost_before_us(stages),
        calls_shed(stages),
        calls_shortened(stages),
        rules_in_doubt(stages),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn one_direction(stages: &Stages) -> Option<Diagnostic> {
    let http = &stages.http;
    let (more, fewer, seen, missing) = if http.requests > http.responses {
        (http.requests, http.responses, "request", "responses")
    } else {
        (http.responses, http.requests, "response", "requests")
    };
    // Where the heads of one side were cut off, that is the fault.
    let flow = &stages.flow;
    let is_cut = flow.flow_truncated_bytes.saturating_mul(2) > flow.missing_bytes();
    let is_fault = more >= ONE_SIDED_MIN && more > fewer.saturating_mul(ONE_SIDED_FACTOR);
    (is_fault && !(is_cut && flow.flow_truncated_bytes > 0)).then(|| {
        let what = format!(
            "one direction only: {} and {} {missing} were captured, so calls stay half ({} so far)",
            plural(more, seen),
            thousands(fewer),
            thousands(http.unpaired_total())
        );
        Diagnostic::new(Code::W064, what).fix(
            "capture where both directions pass: both ports of a tap, ingress and egress of a mirror, all interfaces (without -i)",
        )
    })
}

/// Both directions were captured, each as connections of its own: under two networks, or on the two sides of a translation.
fn directions_apart(stages: &Stages) -> Option<Diagnostic> {
    let http = &stages.http;
    let is_fault = http.requests.min(http.responses) >= ONE_SIDED_MIN
        && stages.message.calls_seen == 0
        && http.half_gap.saturating_mul(2) > http.unpaired_total();
    (is_fault && stages.flow.flow_truncated_bytes == 0).then(|| {
        let what = format!(
            "one direction only in each connection: {} and {} were captured, none with its counterpart",
            plural(http.requests, "request"),
            plural(http.responses, "response")
        );
        Diagnostic::new(Code::W064, what).fix(
            "--fold-copies    where each direction is mirrored as a network of its own; else capture where both pass unchanged",
        )
    })
}

/// Calls of HTTP/2 whose path is unknown, because the connection began before the capture.
fn joined_late(stages: &Stages) -> Option<Diagnostic> {
    let http = &stages.http;
    let calls = stages.message.calls_seen;
    let is_fault = http.half_hpack.saturating_mul(UNKNOWN_SHARE) > calls || calls == 0;
    (http.flows_http2_midstream > 0 && is_fault).then(|| {
        let what = format!(
            "{} (gRPC?) began before the capture; {} unknown path",
            plural(http.flows_http2_midstream, "HTTP/2 connection"),
            match http.half_hpack {
                1 => "1 call has an".to_owned(),
                count => format!("{} calls have an", thousands(count)),
            }
        );
        Diagnostic::new(Code::W063, what)
            .fix("calls become readable as the client sends new paths, or reconnects")
    })
}

fn cut(stages: &Stages) -> Option<Diagnostic> {
    let decap = &stages.decap;
    (decap.segments_cut > 0).then(|| {
        let what = format!(
            "{} arrived cut, by a mirror or a snap length: {} of calls are missing",
            plural(decap.segments_cut, "packet"),
            bytes(decap.payload_bytes_cut)
        );
        Diagnostic::new(Code::W069, what).fix(
            "ip link set DEV mtu 8947    on the mirror's sources, for a target with MTU 9001; or a larger MTU on the target; tcpdump -s 0",
        )
    })
}

fn lost_before_us(stages: &Stages) -> Option<Diagnostic> {
    let flow = &stages.flow;
    let lost = flow
        .missing_bytes()
        .saturating_sub(flow.flow_truncated_bytes);
    let is_share = lost.saturating_mul(GAP_SHARE) > flow.flow_delivered_bytes;
    let is_ours = stages.shard.ring_dropped_full > 0 || stages.shard.flows_other_shard > 0;
    let is_one_sided = one_direction(stages).is_some() || directions_apart(stages).is_some();
    // Few gaps may cost many calls, where later ones depend on what was lost.
    let half = stages.http.half_gap + stages.http.half_hpack;
    let is_many = flow.flow_gaps >= GAPS_MIN || (flow.flow_gaps > 0 && half >= GAPS_MIN);
    (is_many && is_share && !is_ours && !is_one_sided).then(|| {
        let what = format!(
            "{} in {} were acknowledged and never reached this machine",
            bytes(lost),
            plural(flow.flow_gaps, "gap")
        );
        Diagnostic::new(Code::W071, what).fix(
            "the mirror, tap or switch loses packets: check its drop counters and the bandwidth of its port; mirror less",
        )
    })
}

/// Calls that were given up here although they were complete.
fn calls_shed(stages: &Stages) -> Option<Diagnostic> {
    let shed = stages.message.calls_shed;
    (shed > 0).then(|| {
        let what = format!(
            "memory limit reached: {} given up, counted as dropped",
            plural(shed, "call")
        );
        Diagnostic::new(Code::W048, what)
            .fix("--memory-limit 1G, or narrow the capture with -i and -p")
    })
}

/// Bodies and halves of calls that were given up here.
fn calls_shortened(stages: &Stages) -> Option<Diagnostic> {
    let (bodies, half) = (stages.message.bodies_shed, stages.message.half_evicted);
    (bodies + half > 0).then(|| {
        let what = format!(
            "memory limit reached: {} cut, {} given up half",
            match bodies {
                1 => "1 body".to_owned(),
                bodies => format!("{} bodies", thousands(bodies)),
            },
            plural(half, "open call")
        );
        Diagnostic::new(Code::W075, what)
            .fix("--memory-limit 1G, a smaller USAGE_LOGGERS_BODY_LIMIT, or narrow the capture with -i and -p")
    })
}

/// Thousandths of its time that a shard works, to be busy all of the time.
const BUSY: u64 = 950;

/// The most that the others may work for the work to be one's alone.
const IDLE: u64 = 500;

/// One shard works all of the time, and the others do not.
pub(super) fn one_shard_hot<'a>(
    shards: impl IntoIterator<Item = &'a Stages>,
) -> Option<Diagnostic> {
    let busy: Vec<u64> = shards
        .into_iter()
        .map(|shard| shard.shard.busy_permille)
        .collect();
    let (number, most) = busy.iter().enumerate().max_by_key(|(_, busy)| **busy)?;
    let others = busy.len() as u64 - 1;
    let mean = (busy.iter().sum::<u64>() - most).checked_div(others)?;
    (*most >= BUSY && mean < IDLE).then(|| {
        let what = format!(
            "shard {number} works {} % of the time, the others {} %: few connections carry most bytes",
            most / 10,
            mean / 10
        );
        Diagnostic::new(Code::W074, what)
            .fix("another SNIFFER_SHARDS distributes connections anew; sniffer top    shows each shard")
    })
}

/// Values that were hidden because the rules would have had to look at too much.
fn rules_in_doubt(stages: &Stages) -> Option<Diagnostic> {
    let doubts = stages.message.rules_doubts;
    (doubts > 0).then(|| {
        let what = format!(
            "the work that rules may do for one call was done: {} hidden whose rules had no answer",
            plural(doubts, "value")
        );
        Diagnostic::new(Code::W036, what)
            .fix("sniffer rules check FILE    names the patterns that can take so long")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: impl Fn(&mut Stages), expected: &[Code]) {
        let mut stages = Stages::default();
        count(&mut stages);
        let codes: Vec<Code> = faults(&stages).iter().map(|fault| fault.code).collect();
        assert_eq!(codes, expected);
    }

    #[test]
    fn counters_show_what_is_wrong() {
        check(|_| {}, &[]);
        check(|stages| stages.http.requests = 19, &[]);
        check(|stages| stages.http.requests = 700, &[Code::W064]);
        check(
            |stages| (stages.http.requests, stages.http.responses) = (30, 700),
            &[Code::W064],
        );
        check(
            |stages| (stages.http.requests, stages.http.responses) = (700, 690),
            &[],
        );
        check(
            |stages| {
                (stages.http.requests, stages.flow.flow_gap_bytes) = (700, 9000);
                stages.flow.flow_truncated_bytes = 8000;
            },
            &[],
        );
        let apart = |stages: &mut Stages| {
            (stages.http.requests, stages.http.responses) = (120, 105);
            (stages.http.half_gap, stages.flow.flow_gaps) = (225, 90);
            stages.flow.flow_gap_bytes = 60_000;
        };
        check(apart, &[Code::W064]);
        let apart_and_calls = |stages: &mut Stages| {
            apart(stages);
            stages.message.calls_seen = 1;
        };
        check(apart_and_calls, &[Code::W071]);
        let late = |calls| {
            move |stages: &mut Stages| {
                stages.http.flows_http2_midstream = 2;
                (stages.http.half_hpack, stages.message.calls_seen) = (3, calls);
            }
        };
        check(late(0), &[Code::W063]);
        check(late(299), &[Code::W063]);
        check(late(300), &[]);
        check(|stages| stages.decap.segments_cut = 1, &[Code::W069]);
        check(|stages| stages.message.rules_doubts = 1, &[Code::W036]);
        let lossy = |stages: &mut Stages| {
            stages.flow.flow_gaps = 40;
            stages.flow.flow_gap_bytes = 60_000;
            stages.flow.flow_delivered_bytes = 1_000_000;
        };
        check(lossy, &[Code::W071]);
        let few = |half| {
            move |stages: &mut Stages| {
                lossy(stages);
                (stages.flow.flow_gaps, stages.http.half_gap) = (8, half);
            }
        };
        check(few(9), &[]);
        check(few(40), &[Code::W071]);
        check(
            |stages| {
                lossy(stages);
                stages.flow.flow_truncated_bytes = 60_000;
            },
            &[],
        );
        check(
            |stages| {
                lossy(stages);
                stages.shard.ring_dropped_full = 1;
            },
            &[],
        );
        check(
            |stages| {
                lossy(stages);
                stages.flow.flow_delivered_bytes = 1_000_000_000;
            },
            &[],
        );
        check(|stages| stages.message.calls_shed = 1, &[Code::W048]);
        check(|stages| stages.message.bodies_shed = 1, &[Code::W075]);
        check(|stages| stages.message.half_evicted = 1, &[Code::W075]);
    }

    #[test]
    fn one_shard_is_hot_when_the_others_are_not() {
        let hot = |busy: &[u64]| {
            let shards: Vec<Stages> = (busy.iter())
                .map(|busy| {
                    let mut stages = Stages::default();
                    stages.shard.busy_permille = *busy;
                    stages
                })
                .collect();
            one_shard_hot(&shards).map(|fault| fault.what)
        };
        let what = hot(&[100, 990, 300]);
        assert!(what.is_some_and(|what| {
            what.starts_with("shard 1 works 99 % of the time, the others 20 %")
        }));
        for busy in [&[][..], &[1000], &[990, 980], &[900, 0], &[960, 700]] {
            assert_eq!(hot(busy), None, "{busy:?}");
        }
        let shard = |busy| {
            let mut stages = Stages::default();
            stages.shard.busy_permille = busy;
            stages
        };
        let found = one_shard_hot(&[shard(0), shard(950)]).map(|fault| fault.code);
        assert_eq!(found, Some(Code::W074));
    }
}
