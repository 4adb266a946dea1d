//! `sniffer top`: what the capture does, as it does it, by shard, network, host, endpoint and port; of several nodes at once with
//! `--host`.
//!
//! The numbers of a node are its metrics: of this host over the control socket, of others from their metrics ports. Hosts and
//! endpoints are those of the calls in a store. Each node has a thread that reads it, so that one that does not answer delays
//! nothing. Where there is no terminal, and with `--once`, the present state is printed once.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use ratatui::crossterm::event;
use serde_json::Value;

use crate::config::command_line::TopFlags;
use crate::diagnostic::{Code, Diagnostic, Exit, system_words, wants_colour};
use crate::invocation::Invocation;
use crate::limits::NODES_MAX;
use crate::stdout::{print, print_json};
use crate::store_client;
use cell::Kind;
use groups::Groups;
use node::{Answer, Node, Source};
use screen::Shown;
use view::{Next, View};

mod cell;
mod groups;
mod node;
mod scrape;
mod screen;
mod table;
mod text;
mod view;

/// Time between two looks at the keyboard, and so between two draws at most.
const TURN: Duration = Duration::from_millis(100);

/// The kind that needs no store.
const NO_STORE: usize = usize::MAX;

/// What the threads found.
enum Found {
    Node(usize, Result<Answer, String>),
    Groups(Kind, Result<Value, String>),
}

/// Runs the command.
///
/// # Errors
///
/// Too many nodes, a link that is none, or a terminal that cannot be used.
pub fn command(flags: &TopFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    if flags.host.len() > NODES_MAX {
        let what = format!("--host: {} nodes, {NODES_MAX} at most", flags.host.len());
        return Err(Diagnostic::new(Code::E002, what));
    }
    if let Some(link) = &flags.store.page {
        store_client::link::Link::parse(link)?;
    }
    let sources = match flags.host.is_empty() {
        true => vec![Source::Control(invocation.control.clone())],
        false => flags
            .host
            .iter()
            .map(|host| Source::of_host(host))
            .collect(),
    };
    let is_json = flags.json || invocation.json;
    if flags.once || is_json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal()
    {
        return once(flags, &sources, invocation, is_json);
    }
    watch(flags, &sources, invocation)
}

/// Prints the present state: what each node had at two moments, `--interval` apart.
fn once(
    flags: &TopFlags,
    sources: &[Source],
    invocation: &Invocation,
    is_json: bool,
) -> Result<Exit, Diagnostic> {
    let mut nodes: Vec<Node> = sources.iter().map(Node::new).collect();
    for round in 0..2 {
        if round > 0 {
            std::thread::sleep(flags.interval());
        }
        let reads: Vec<_> = std::thread::scope(|scope| {
            let reads: Vec<_> = (sources.iter())
                .map(|source| scope.spawn(|| source.read()))
                .collect();
            let ended = reads.into_iter().map(|read| {
                let bug = |_| Err("the thread that read it ended".to_owned());
                read.join().unwrap_or_else(bug)
            });
            ended.collect()
        });
        for (node, read) in nodes.iter_mut().zip(reads) {
            node.update(read);
        }
        if nodes.iter().all(|node| node.now.is_none()) {
            break;
        }
    }
    for node in &nodes {
        if let Some(problem) = &node.problem {
            let what = format!("{}: {problem}", node.name);
            let problem = Diagnostic::new(Code::E114, what);
            invocation.console.report(&problem.fix(FIX));
        }
    }
    if nodes.iter().all(|node| node.now.is_none()) {
        return Ok(Exit::NotRunning);
    }
    let mut groups = Groups::default();
    if has_store(flags) {
        for kind in [Kind::Hosts, Kind::Endpoints] {
            groups.update(kind, read_groups(flags, invocation, kind));
        }
    }
    if is_json {
        print_json(&text::json(&nodes, &groups));
    } else {
        print(&text::plain(&nodes, &groups));
    }
    Ok(Exit::Done)
}

/// What is done about a node that does not answer.
const FIX: &str = "sniffer run    or: sniffer all-in-one --on; of another host: --host HOST:7702, with SNIFFER_METRICS=:7702 there";

/// Whether there may be a store: that of this host, or one that is named.
fn has_store(flags: &TopFlags) -> bool {
    flags.host.is_empty() || flags.store.page.is_some()
}

fn read_groups(flags: &TopFlags, invocation: &Invocation, kind: Kind) -> Result<Value, String> {
    if !has_store(flags) {
        return Err("no store is named".to_owned());
    }
    let link = store_client::link(&flags.store, invocation).map_err(|problem| problem.what)?;
    groups::read(&link, kind.field().unwrap_or_default())
}

/// The screen, until it is left.
fn watch(
    flags: &TopFlags,
    sources: &[Source],
    invocation: &Invocation,
) -> Result<Exit, Diagnostic> {
    let (sender, found) = mpsc::channel();
    let wanted = Arc::new(AtomicUsize::new(NO_STORE));
    start(flags, sources, invocation, &sender, &wanted).map_err(|error| no_terminal(&error))?;
    let mut terminal = ratatui::try_init().map_err(|error| no_terminal(&error))?;
    let nodes = sources.iter().map(Node::new).collect();
    let colour = wants_colour(invocation.flags.color, true);
    let left = show(&mut terminal, nodes, &found, &wanted, colour);
    // A terminal that is gone needs nothing any more.
    let _ = ratatui::try_restore();
    left.map_err(|error| no_terminal(&error))?;
    Ok(Exit::Done)
}

fn no_terminal(error: &std::io::Error) -> Diagnostic {
    let what = format!("the terminal cannot be used: {}", system_words(error));
    Diagnostic::new(Code::E060, what).fix("sniffer top --once    prints the present state")
}

/// Starts the threads that read; they end with the process.
fn start(
    flags: &TopFlags,
    sources: &[Source],
    invocation: &Invocation,
    sender: &Sender<Found>,
    wanted: &Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let interval = flags.interval();
    for (number, source) in sources.iter().cloned().enumerate() {
        let sender = sender.clone();
        let read = move || {
            while sender.send(Found::Node(number, source.read())).is_ok() {
                std::thread::sleep(interval);
            }
        };
        std::thread::Builder::new()
            .name("node".into())
            .spawn(read)?;
    }
    let (sender, wanted) = (sender.clone(), Arc::clone(wanted));
    let (flags, invocation) = (flags.clone(), invocation.clone());
    let read = move || loop {
        let kind = Kind::ALL.get(wanted.load(Ordering::Relaxed)).copied();
        if let Some(kind) = kind.filter(|kind| kind.field().is_some()) {
            let read = read_groups(&flags, &invocation, kind);
            if sender.send(Found::Groups(kind, read)).is_err() {
                return;
            }
            std::thread::sleep(interval);
        } else {
            std::thread::sleep(TURN);
        }
    };
    std::thread::Builder::new()
        .name("store".into())
        .spawn(read)
        .map(drop)
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    mut nodes: Vec<Node>,
    found: &Receiver<Found>,
    wanted: &AtomicUsize,
    has_colour: bool,
) -> std::io::Result<()> {
    let mut view = View::default();
    let mut groups = Groups::default();
    loop {
        for news in found.try_iter() {
            // What comes during a pause is not kept: rates are from then on those of the time between.
            if view.is_paused {
                continue;
            }
            match news {
                Found::Node(number, read) => {
                    if let Some(node) = nodes.get_mut(number) {
                        node.update(read);
                    }
                }
                Found::Groups(kind, read) => groups.update(kind, read),
            }
        }
        let shown = Shown {
            view: &view,
            nodes: &nodes,
            groups: &groups,
            has_colour,
        };
        let mut most = 0;
        terminal.draw(|frame| most = shown.draw(frame))?;
        view.offset = view.offset.min(most);
        if !event::poll(TURN)? {
            continue;
        }
        let Some(key) = screen::key(&event::read()?) else {
            continue;
        };
        let columns = text::table(&view, &nodes, &groups).columns.len();
        let warnings = text::warnings(&nodes).len();
        if view.press(key, columns, warnings) == Next::End {
            return Ok(());
        }
        let kind = Kind::ALL.iter().position(|kind| *kind == view.kind);
        wanted.store(kind.unwrap_or(NO_STORE), Ordering::Relaxed);
    }
}
