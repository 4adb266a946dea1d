//! `sniffer ports`: what each port was seen to use, and the setting that reads those with HTTP.

use std::fmt::Write as _;

use engine_core::http::Protocol;

use super::STATUS_TIMEOUT;
use crate::control::{self, Request, Unreachable};
use crate::diagnostic::{Code, Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::quantity::thousands;
use crate::status::{Capture, Port};
use crate::stdout::{print, print_json};

/// Ports in the line to paste: beyond, no list is worth it.
const PORTS_MAX: usize = 32;

/// Prints the ports of the capture that runs, or of the last one.
pub fn show(invocation: &Invocation, json: bool) -> Result<Exit, Diagnostic> {
    let control = &invocation.control;
    let nothing = |what: String| {
        Diagnostic::new(Code::E110, what)
            .fix("sniffer on    starts a capture in the all-in-one that runs\nsniffer all-in-one --on    or: sniffer run")
    };
    let answer = control::send(control, Request::Status, STATUS_TIMEOUT);
    let status = match answer {
        Ok(response) => response.status,
        Err(Unreachable::Error(problem)) => return Err(problem),
        Err(Unreachable::NotRunning) => {
            let what = format!("nothing answers on {}", control.display());
            invocation.console.report(&nothing(what));
            return Ok(Exit::NotRunning);
        }
    };
    let Some(capture) = status.and_then(|status| status.capture) else {
        invocation
            .console
            .report(&nothing("nothing was captured yet".to_owned()));
        return Ok(Exit::NotRunning);
    };
    if json {
        print_json(&capture.ports);
    } else {
        print(&text(&capture));
    }
    Ok(Exit::Done)
}

/// The connections of a port, by protocol.
fn row(port: &Port) -> String {
    let columns = Protocol::COLUMNS
        .into_iter()
        .filter(|protocol| protocol.column().is_some());
    let seen = columns.filter_map(|protocol| {
        let count = port.count(protocol);
        let name = protocol.column()?;
        (count > 0).then(|| format!("{} {name}", thousands(count)))
    });
    format!(
        "{:>5}  {}\n",
        port.port,
        seen.collect::<Vec<_>>().join(", ")
    )
}

/// Whether calls are read on it.
fn is_read(port: &Port) -> bool {
    let read = Protocol::COLUMNS
        .into_iter()
        .filter(|protocol| protocol.is_read());
    read.map(|protocol| port.count(protocol)).sum::<u64>() > 0
}

fn text(capture: &Capture) -> String {
    let mut ports: Vec<&Port> = capture.ports.iter().collect();
    ports.sort_by_key(|port| port.port);
    let mut text = format!("connections by port of the server ({})\n", capture.reads);
    ports.iter().for_each(|port| text.push_str(&row(port)));
    let with_calls: Vec<String> = ports
        .iter()
        .filter(|port| is_read(port))
        .map(|port| port.port.to_string())
        .collect();
    let _ = match with_calls.len() {
        0 if ports.is_empty() => writeln!(text, "none yet: no connection was seen"),
        0 => writeln!(text, "none of them has HTTP that can be read"),
        1..=PORTS_MAX => writeln!(
            text,
            "to read only those with HTTP:\nAPP_PORTS={}",
            with_calls.join(",")
        ),
        _ => writeln!(
            text,
            "{} ports have HTTP: leave APP_PORTS empty",
            with_calls.len()
        ),
    };
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn capture(ports: &[(u16, &[(Protocol, u64)])]) -> Capture {
        let ports = ports.iter().map(|(port, seen)| Port {
            port: *port,
            connections: seen
                .iter()
                .map(|(protocol, count)| (protocol.column().unwrap().to_owned(), *count))
                .collect::<BTreeMap<_, _>>(),
        });
        Capture {
            reads: "any port".into(),
            ports: ports.collect(),
            ..Capture::default()
        }
    }

    #[test]
    fn the_line_to_paste_has_the_ports_with_calls() {
        let capture = capture(&[
            (8000, &[(Protocol::Http1, 1204)]),
            (443, &[(Protocol::Tls, 120)]),
            (3000, &[(Protocol::Http2, 31), (Protocol::Other, 2)]),
        ]);
        let text = text(&capture);
        let expected = "connections by port of the server (any port)\n  443  120 tls\n 3000  31 http2, 2 other\n \
            8000  1 204 http\nto read only those with HTTP:\nAPP_PORTS=3000,8000\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_http_there_is_no_line_to_paste() {
        for (ports, expected) in [
            (&[][..], "no connection was seen"),
            (
                &[(443, &[(Protocol::Tls, 1)][..])][..],
                "none of them has HTTP",
            ),
        ] {
            let text = text(&capture(ports));
            assert!(
                text.contains(expected) && !text.contains("APP_PORTS"),
                "{text}"
            );
        }
        let many: Vec<(u16, &[(Protocol, u64)])> = (1..=40)
            .map(|port| (port, &[(Protocol::Http1, 1)][..]))
            .collect();
        assert!(text(&capture(&many)).contains("40 ports have HTTP"));
    }
}
