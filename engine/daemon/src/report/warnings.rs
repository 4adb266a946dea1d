//! The warnings of a running capture, in the words that log and status show.

use engine_sys::packet::Trouble;

use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::{plural, thousands};
use crate::status::{self, Step, Warning};

/// All warnings that hold now: `hints`, and those that follow from the state of the capture.
pub fn warnings(capture: &status::Capture, hints: Vec<Diagnostic>) -> Vec<Warning> {
    let mut problems = hints;
    let sinks = capture.each_sink();
    for sink in sinks.iter().filter(|sink| sink.output.up == Some(false)) {
        problems.push(destination_down(sink));
    }
    let dropped = sinks
        .iter()
        .map(|sink| sink.calls.dropped.get("queue_full"));
    let queue_full: u64 = dropped.flatten().sum();
    if queue_full > 0 {
        problems.push(queue_was_full(queue_full));
    }
    problems.extend(spool_troubles(capture));
    let mut transports = sinks.iter().map(|sink| &sink.output.transport);
    if let Some(transport) = transports.find(|transport| transport.contains('(')) {
        let what = format!("uploader: {transport}");
        problems.push(Diagnostic::new(Code::W050, what));
    }
    if capture.packets.dropped > 0 {
        problems.push(ring_was_full(capture.packets.dropped));
    }
    if capture.overload.step != Step::None {
        problems.push(cannot_keep_up(&capture.overload));
    }
    if capture.flows_apart > 0 {
        problems.push(flows_are_split(capture.flows_apart));
    }
    problems.extend(markers_refused(&capture.uploads));
    problems.iter().map(Warning::new).collect()
}

/// Connections whose directions reached different shards.
pub fn flows_are_split(flows: u64) -> Diagnostic {
    Diagnostic::new(
        Code::W073,
        format!(
            "requests and responses of {} reached different capture threads: their calls are half",
            plural(flows, "connection"),
        ),
    )
    .fix("--shards 1")
}

fn destination_down(sink: &status::Sink) -> Diagnostic {
    let output = &sink.output;
    let why = output
        .last_error
        .clone()
        .unwrap_or_else(|| format!("answered {}", output.last_code));
    let dropped = sink.calls.dropped_total();
    let code = output.last_error_code.as_deref().and_then(Code::find);
    // A refusal names the URL itself.
    let place = if why.starts_with(&output.url) {
        String::new()
    } else {
        format!("{}: ", output.url)
    };
    let dropped = plural(dropped, "call");
    Diagnostic::new(
        code.unwrap_or(Code::W042),
        format!("{place}{why}; {dropped} dropped so far"),
    )
}

/// What is wrong with the spool of this capture.
pub fn spool_troubles(capture: &status::Capture) -> Vec<Diagnostic> {
    let sinks = capture.each_sink();
    let spools = sinks
        .iter()
        .filter_map(|sink| Some((sink.output.spool.as_ref()?, &sink.calls)));
    spools
        .flat_map(|(spool, calls)| of_spool(spool, calls))
        .collect()
}

fn of_spool(spool: &status::Spool, calls: &status::Calls) -> Vec<Diagnostic> {
    let folder = &spool.folder;
    let mut found = Vec::new();
    if !spool.trouble.is_empty() {
        let what = format!(
            "the spool {folder} cannot be written: {}; bundles are kept in memory only",
            spool.trouble
        );
        found.push(Diagnostic::new(Code::W051, what).fix(format!("df -h {folder}")));
    }
    if spool.held_calls > 0 {
        let what = format!(
            "{} in {} are held: they were captured under other rules",
            plural(spool.held_calls, "call"),
            plural(spool.held_segments, "spool segment"),
        );
        let fix = "sniffer spool drain    delivers them; or: sniffer spool discard";
        found.push(Diagnostic::new(Code::W052, what).fix(fix));
    }
    if spool.later_segments > 0 {
        let what = format!(
            "{} in {folder} were written by a later version of this program, and stay there for it",
            plural(spool.later_segments, "spool segment"),
        );
        let fix = "sniffer spool drain    by that version delivers them";
        found.push(Diagnostic::new(Code::W052, what).fix(fix));
    }
    if spool.damaged_calls + spool.unknown_calls > 0 {
        let what = format!(
            "{} in the spool {folder} cannot be read; whether {} more were delivered is unknown",
            plural(spool.damaged_calls, "call"),
            thousands(spool.unknown_calls),
        );
        found.push(Diagnostic::new(Code::W053, what));
    }
    let dropped = |reason: &str| calls.dropped.get(reason).copied().unwrap_or(0);
    let given_up = dropped("spool_full") + dropped("spool_age");
    if given_up > 0 {
        let what = format!(
            "the spool gave up {}: its bounds were reached",
            plural(given_up, "call")
        );
        found.push(Diagnostic::new(Code::W054, what).fix("a larger --spool-bytes or --spool-age"));
    }
    found
}

/// The destination takes less than is captured: calls of this number were dropped because no more could be kept.
pub fn queue_was_full(calls: u64) -> Diagnostic {
    let what = format!(
        "the destination takes less than is captured: {} dropped because the queue was full",
        plural(calls, "call")
    );
    Diagnostic::new(Code::W047, what).fix(
        "--bundle-queue-size 1024 bridges a burst; else a faster destination, or the rule `sample N`",
    )
}

/// The trial at the start showed that this kernel does not keep the directions of a flow together.
pub fn steering_fails(flows: u32, apart: u32, rings: u32) -> Diagnostic {
    Diagnostic::new(
        Code::W073,
        format!(
            "requests and responses of a connection may reach different capture threads ({apart} of {flows} did in a trial with 4, of which {rings} got any)"
        ),
    )
    .fix("--shards 1")
}

/// Frames that the kernel dropped.
pub fn ring_was_full(drops: u64) -> Diagnostic {
    Diagnostic::new(
        Code::W070,
        format!("ring full: {} packets dropped", thousands(drops)),
    )
    .fix("--ring-size 64M    (or SNIFFER_PCAP_BUFFER_SIZE=64M) for longer bursts; or narrow the capture with -i and -p")
}

/// Somebody marks requests as uploads that are none.
pub fn markers_refused(uploads: &status::Uploads) -> Option<Diagnostic> {
    let what = format!(
        "{} with the marker of a sniffer's upload, but none; read as calls",
        plural(uploads.markers_refused, "request")
    );
    (uploads.markers_refused > 0).then(|| Diagnostic::new(Code::W077, what))
}

/// What is left out now.
pub fn cannot_keep_up(overload: &status::Overload) -> Diagnostic {
    let what = format!("cannot keep up: {}", overload.now());
    Diagnostic::new(Code::W070, what)
        .fix("more shards or a faster machine; or narrow the capture with -i and -p, or `sample` in the rules")
}

/// Trouble of a captured interface that [`Hotplug`](crate::capture::hotplug::Hotplug) does not report.
pub fn interface_trouble(name: &str, trouble: Trouble) -> Option<Diagnostic> {
    match trouble {
        Trouble::InterfaceDown | Trouble::InterfaceGone => None,
        Trouble::Other(errno) => {
            let error = std::io::Error::from_raw_os_error(errno);
            Some(Diagnostic::new(Code::W021, format!("{name}: {error}")))
        }
    }
}
