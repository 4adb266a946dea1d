//! The warnings of a running capture, as log and status show them.

use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::{plural, thousands};
use crate::status::{self, Step, Warning};

/// What holds now: `hints`, and what the capture itself says.
pub fn warnings(capture: &status::Capture, hints: Vec<Diagnostic>) -> Vec<Warning> {
    let mut problems = hints;
    if capture.output.up == Some(false) {
        problems.push(destination_down(capture));
    }
    if capture.output.transport.contains('(') {
        problems.push(Diagnostic::new(
            Code::W050,
            format!("uploader: {}", capture.output.transport),
        ));
    }
    if capture.packets.dropped > 0 {
        problems.push(ring_was_full(capture.packets.dropped));
    }
    if capture.overload.step != Step::None {
        problems.push(cannot_keep_up(&capture.overload));
    }
    if capture.flows_apart > 0 {
        problems.push(flows_part(capture));
    }
    problems
        .into_iter()
        .map(|problem| Warning {
            code: problem.code.to_string(),
            text: problem.what,
        })
        .collect()
}

fn flows_part(capture: &status::Capture) -> Diagnostic {
    Diagnostic::new(
        Code::W073,
        format!(
            "{}, the directions of {} came to different shards: their calls are halves",
            capture.steering,
            plural(capture.flows_apart, "flow"),
        ),
    )
    .fix("--shards 1")
}

fn destination_down(capture: &status::Capture) -> Diagnostic {
    let output = &capture.output;
    let why = output
        .last_error
        .clone()
        .unwrap_or_else(|| format!("answered {}", output.last_code));
    let dropped = capture.calls.dropped_total();
    Diagnostic::new(
        Code::W042,
        format!(
            "{}: {why}; keeping what fits and trying again, {dropped} calls lost so far",
            output.url
        ),
    )
}

/// The kernel dropped frames.
pub fn ring_was_full(drops: u64) -> Diagnostic {
    Diagnostic::new(
        Code::W070,
        format!("ring full: {} packets dropped", thousands(drops)),
    )
    .fix("--ring-size 64M, or narrow the capture with -i and -p")
}

/// Something is given up.
pub fn cannot_keep_up(overload: &status::Overload) -> Diagnostic {
    let what = format!("cannot keep up: {}", overload.now());
    Diagnostic::new(Code::W070, what)
        .fix("more shards or a faster machine; or narrow the capture with -i and -p, or `sample` in the rules")
}
