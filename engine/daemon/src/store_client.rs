//! `sniffer tail`, `query` and `delete`: what the API of the store answers, on standard output.
//!
//! The store is that of the running all-in-one, which the control socket names, or that of `--page LINK`. What calls contain is
//! written by strangers: before it reaches a terminal it loses everything that is no plain text.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::command_line::{DeleteFlags, QueryFlags, StoreAddress, TailFlags};
use crate::config::filter;
use crate::control::{self, Request, Unreachable};
use crate::diagnostic::{Code, Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::quantity::plural;
use events::Events;
use link::Link;

pub mod canary;
mod events;
pub mod link;
mod table;

pub use table::plain;

/// Time for the link.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before the stream of a store that went away is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// `sniffer tail`: the newest calls, the oldest of them first, and with `-f` each one that comes.
pub fn tail(flags: &TailFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let text = flags.filter.join(" ");
    filter(&text)?;
    let link = link(&flags.store, invocation)?;
    let is_json = flags.json || invocation.json;
    let limit = flags.calls.to_string();
    let list = link.get("calls", &[("filter", &text), ("limit", &limit)])?;
    let mut is_open = print_calls(&list["calls"], is_json);
    if !flags.follow {
        note_coverage(&list["coverage"], invocation);
        return Ok(Exit::Done);
    }
    let mut place = list["newest"].as_str().unwrap_or_default().to_owned();
    while is_open {
        let stream = link.open("stream", &[("filter", &text), ("after", &place)])?;
        for event in Events::new(stream) {
            match event.name.as_str() {
                "calls" => is_open = print_calls(&event.data["calls"], is_json),
                "lagged" => {
                    let missed = event.data["arrived"].as_u64().unwrap_or_default();
                    let missed = plural(missed, "call");
                    invocation
                        .console
                        .info(format_args!("{missed} came faster than they are shown"));
                }
                _ => {}
            }
            if !event.id.is_empty() {
                place = event.id;
            }
            if !is_open {
                return Ok(Exit::Done);
            }
        }
        std::thread::sleep(RETRY);
    }
    Ok(Exit::Done)
}

/// `sniffer query`: the rows of a query in SQL.
pub fn query(flags: &QueryFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let text = flags.filter.clone().unwrap_or_default();
    filter(&text)?;
    let mut request = json!({ "sql": flags.sql, "filter": text });
    if flags.database {
        request["database"] = true.into();
    }
    add_range(&mut request, flags.from.as_deref(), flags.to.as_deref());
    let answer = link(&flags.store, invocation)?.post("query", &request)?;
    let written = if flags.json || invocation.json {
        writeln!(std::io::stdout(), "{answer}")
    } else {
        std::io::stdout().write_all(table::rows(&answer["columns"], &answer["rows"]).as_bytes())
    };
    // A closed pipe is an end: the reader has seen enough.
    drop(written);
    note_coverage(&answer["coverage"], invocation);
    if answer["truncated"] == true {
        invocation
            .console
            .info("the answer has more rows; LIMIT or the filter makes it smaller");
    }
    Ok(Exit::Done)
}

/// `sniffer delete`: counts, has that confirmed, and deletes.
pub fn delete(flags: &DeleteFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let text = flags.filter.join(" ");
    filter(&text)?;
    let link = link(&flags.store, invocation)?;
    let mut request = json!({ "filter": text });
    add_range(&mut request, flags.from.as_deref(), flags.to.as_deref());
    let counted = link.post("delete", &request)?;
    let matching = counted["matching"].as_u64().unwrap_or_default();
    note_coverage(&counted["coverage"], invocation);
    if !flags.yes && !is_confirmed(matching)? {
        println!("nothing was deleted");
        return Ok(Exit::Done);
    }
    // The range as the store understood it: one that is relative to the present is another one by now.
    for (name, end) in [("from", "from_ms"), ("to", "to_ms")] {
        if let Some(ms) = counted["coverage"][end].as_i64() {
            request[name] = ms.to_string().into();
        }
    }
    if flags.from.is_some() || flags.to.is_some() {
        request["confirm"] = link.post("delete", &request)?["confirm"].clone();
    } else {
        request["confirm"] = counted["confirm"].clone();
    }
    let mut deleted = 0;
    loop {
        let round = link.post("delete", &request)?;
        deleted += round["deleted"].as_u64().unwrap_or_default();
        if round["next"].is_null() {
            break;
        }
        request["next"] = round["next"].clone();
    }
    println!("{} deleted", plural(deleted, "call"));
    Ok(Exit::Done)
}

/// Whether the person at the terminal repeats the number.
fn is_confirmed(matching: u64) -> Result<bool, Diagnostic> {
    let calls = plural(matching, "call");
    if !std::io::stdin().is_terminal() {
        let what = format!("{calls} would be deleted, and nobody can confirm that");
        return Err(Diagnostic::new(Code::E132, what).fix("--yes    deletes without a question"));
    }
    eprint!("{calls} will be deleted for good. Repeat the number to confirm: ");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    Ok(read.is_ok() && line.trim() == matching.to_string())
}

fn add_range(request: &mut Value, from: Option<&str>, to: Option<&str>) {
    for (name, time) in [("from", from), ("to", to)] {
        if let Some(time) = time {
            request[name] = time.into();
        }
    }
}

/// The link of the page: that of the command line, else that of the running all-in-one.
///
/// # Errors
///
/// The text is no link, or no store runs here.
pub fn link(address: &StoreAddress, invocation: &Invocation) -> Result<Link, Diagnostic> {
    if let Some(text) = &address.page {
        return Link::parse(text);
    }
    match control::send(&invocation.control, Request::Page, CONTROL_TIMEOUT) {
        Ok(response) if response.exit == Exit::Done as u8 => Link::parse(response.text.trim()),
        Ok(response) => Err(no_store(&response.text)),
        Err(Unreachable::Error(problem)) => Err(problem),
        Err(Unreachable::NotRunning) => Err(no_store("no sniffer is running")),
    }
}

fn no_store(why: &str) -> Diagnostic {
    Diagnostic::new(Code::E131, format!("no store: {why}")).fix(
        "sniffer all-in-one    has a store\n--page 'http://localhost:7700/?token=...'    names that of `sniffer store`",
    )
}

/// Prints calls, the oldest first. False once standard output is closed.
fn print_calls(calls: &Value, is_json: bool) -> bool {
    let calls = calls.as_array().map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for call in calls.iter().rev() {
        text += &if is_json {
            format!("{call}\n")
        } else {
            table::call(call)
        };
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// States what an answer lacks.
pub fn note_coverage(coverage: &Value, invocation: &Invocation) {
    if let Some(reason) = coverage["partial"].as_str() {
        invocation.console.info(format_args!(
            "not all calls were looked at: {}",
            plain(reason)
        ));
    }
    for (cause, count) in coverage["lost"].as_object().into_iter().flatten() {
        let calls = plural(count.as_u64().unwrap_or_default(), "call");
        let cause = plain(&cause.replace('_', " "));
        invocation
            .console
            .info(format_args!("missing: {calls} ({cause})"));
    }
}
