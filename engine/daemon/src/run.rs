//! `sniffer run`: rings open, capabilities gone, shards reading, one uploader delivering, until told to stop.
//!
//! This thread only starts, watches and stops the others. On SIGTERM the capture ends, the rings are drained, what is
//! open is completed or given up, bundles are delivered within the flush timeout, and the ledger is printed: what was
//! not delivered is said and makes the exit code 8.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use engine_core::bundle::{self, Bundler, Compression};
use engine_core::pipeline::Pipeline;
use engine_core::{http, limits, message};
use engine_sys::interfaces;
use engine_sys::packet::{SelfTest, Steering, Trouble};
use engine_sys::{cpu, process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::config::{Capture, Destination, Engine, Reading, Rules};
use crate::control::{Request, Response, Server};
use crate::diagnostic::{Code, Diagnostic, Exit, Talk};
use crate::metrics::Endpoint;
use crate::quantity::{plural, thousands};
use crate::sandbox::{Confinement, Files, Plan};
use crate::status::{self, State, Status};
use crate::supervised;
use crate::upload::{self, Roots, UploadConfig, Uploader};
use choice::Choice;
use crossings::{Crossings, Witness};
use follow::Follower;
use hints::Setting;
use overload::{Announced, Change};
use own_upload::OwnUpload;
use published::{Published, Stages};
use rings::{Opened, Opener};
use rule_watch::RuleWatch;
use shard::{Orders, Shard, Source};
use view::{Reloads, View};

pub mod choice;
pub mod crossings;
pub mod follow;
pub mod hints;
pub mod overload;
pub mod own_upload;
pub mod published;
pub mod rings;
pub mod rule_watch;
pub mod shard;
pub mod view;

/// How often the watcher looks at destination and rings.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The uploader has this long after the shards have ended, whatever they left of the flush timeout.
const FLUSH_MIN: Duration = Duration::from_millis(500);

/// What a run is told beside its settings.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Control socket.
    pub control: &'a Path,
    /// Ports of this machine whose connections are our own and not read.
    pub own_ports: &'a [u16],
    /// A supervisor started us: end with it, and tell it the final status on standard output.
    pub is_supervised: bool,
    /// Reads the settings again for their rules: what a rules file says now.
    pub reload: &'a dyn Fn() -> Result<Rules, Diagnostic>,
    /// The file that the rules are in.
    pub rules_file: Option<&'a Path>,
    /// Confine this process once its rings are open.
    pub sandbox: bool,
    /// How to talk.
    pub talk: Talk,
}

/// What happens to the watching thread.
pub enum Event {
    /// SIGTERM, SIGINT, SIGHUP, SIGUSR1.
    Signal(i32),
    /// A client wants the rules read again.
    Reload(Sender<Response>),
    /// `sniffer off`.
    Off(Sender<Response>),
    /// A shard's interface has a problem.
    Trouble(String, Trouble),
    /// A shard ended before it was told to.
    ShardEnded,
}

/// Captures until SIGTERM, SIGINT or `sniffer off`.
pub fn run(config: Capture, place: Place<'_>) -> Result<Exit, Diagnostic> {
    let talk = place.talk;
    let choice = choose(&config)?;
    talk.show_all(&choice.notices);
    let metrics = Endpoint::open(config.metrics.as_ref())?;
    let server = Server::bind(place.control)?;
    let own = own_endpoints(&config.destination, place.own_ports, metrics.address());
    let mut opener = Opener::new(&config, &choice, &own);
    let opened = open_all(&mut opener, &choice, talk)?;
    let own = OwnUpload::new(own);
    let mut follower = Follower::new(&config, &choice, opener)?;
    process::drop_capabilities().map_err(|error| bug("cannot give up capabilities", &error))?;
    // Refused only by kernels before 3.5.
    let _ = process::no_new_privileges();
    let roots = match &config.destination {
        Destination::Url(url) if url.is_https() => Roots::of_system(),
        _ => Roots::System,
    };
    let plan = Plan::capture(&config, place.rules_file, place.control);
    let files = place.sandbox.then(|| plan.confine_files());

    let (sender, events) = mpsc::channel();
    watch_signals(sender.clone())?;
    if place.is_supervised {
        supervised::end_with_supervisor();
    }
    let running = Running::start(
        config,
        &choice,
        opened,
        (&own, roots),
        sender.clone(),
        &metrics,
        talk,
    )?;
    let for_control = Arc::clone(&running.view);
    let serving = server
        .serve(move |request| answer(&for_control, &sender, request))
        .map_err(|error| bug("cannot serve the control socket", &error))?;
    talk.say(&running.view.sentence);
    serve_metrics(metrics, &running.view, talk)?;
    talk.say(format_args!("sandbox: {}", running.confine(plan, files)));

    let cause = watch(&running, &events, &mut follower, place);
    let Ended { view, panicked } = running.stop();
    let status = view.status(State::Stopped);
    let capture = status.capture.clone().unwrap_or_default();
    let summary = capture.summary(view.started.elapsed().as_secs());
    talk.say(&summary);
    if place.is_supervised {
        print_status(&status);
    }
    let exit = match (panicked, &capture.calls) {
        (true, _) => Exit::Bug,
        (false, calls)
            if calls.dropped_total() > 0 || calls.in_flight > 0 || calls.unaccounted != 0 =>
        {
            Exit::Incomplete
        }
        _ => Exit::Done,
    };
    if let Cause::Off(reply) = cause {
        // A client that went away does not need its answer; the pause lets the one that waits have it.
        let _ = reply.send(Response::say(exit, format!("sniffer: stopped\n{summary}")));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(serving);
    Ok(exit)
}

fn serve_metrics(metrics: Endpoint, view: &Arc<View>, talk: Talk) -> Result<(), Diagnostic> {
    match metrics {
        Endpoint::Off => Ok(()),
        Endpoint::Taken(problem) => {
            talk.show(&problem);
            Ok(())
        }
        Endpoint::At(server) => {
            let view = Arc::clone(view);
            server
                .serve(move |page| view.page(page))
                .map_err(|error| bug("cannot serve metrics", &error))
        }
    }
}

fn bug(what: &str, error: &impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(Code::E199, format!("{what}: {error}"))
}

fn print_status(status: &Status) {
    use std::io::Write;
    if let Ok(mut line) = serde_json::to_vec(status) {
        line.push(b'\n');
        let _ = std::io::stdout().lock().write_all(&line);
    }
}

/// The interfaces that settings and machine lead to.
fn choose(config: &Capture) -> Result<Choice, Diagnostic> {
    let all = interfaces::list().map_err(|error| {
        Diagnostic::new(Code::E090, format!("cannot list interfaces: {error}"))
            .cause("rtnetlink(7) refused")
    })?;
    choice::choose(&config.interfaces, config.engine, &all)
}

/// Rings for each interface. Nothing is captured if one of them cannot be: a part that is silently missing is worse.
fn open_all(opener: &mut Opener, choice: &Choice, talk: Talk) -> Result<Vec<Opened>, Diagnostic> {
    if let SelfTest::Failed {
        flows,
        apart,
        rings,
    } = opener.self_test()
    {
        talk.show(&Diagnostic::new(
            Code::W073,
            format!("steering: of {flows} flows tried, {apart} had their directions on different shards, {rings} shards got any"),
        ));
    }
    choice
        .interfaces
        .iter()
        .map(|interface| opener.open(interface))
        .collect()
}

/// The value of a line of `/proc/self/status`.
fn proc_status(label: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .map_or("?".to_owned(), |value| value.trim().to_owned())
}

/// Where our own upload goes, and our own ports at every address of this machine, metrics at theirs. A name that does
/// not resolve now is tried by the uploader again; until then nothing of it is on the wire but look-ups.
fn own_endpoints(
    destination: &Destination,
    own_ports: &[u16],
    metrics: Option<SocketAddr>,
) -> Vec<SocketAddr> {
    let mut own_ports = own_ports.to_vec();
    own_ports.extend(
        metrics
            .filter(|at| at.ip().is_unspecified())
            .map(|at| at.port()),
    );
    let mut endpoints: Vec<SocketAddr> = match destination {
        Destination::Url(url) => (url.host(), url.port())
            .to_socket_addrs()
            .map(Iterator::collect)
            .unwrap_or_default(),
        Destination::Nowhere(_) => Vec::new(),
    };
    endpoints.extend(metrics.filter(|at| !at.ip().is_unspecified()));
    // Listed once already when the interfaces were chosen; that it fails now and not then is not worth an error.
    for address in interfaces::list()
        .unwrap_or_default()
        .iter()
        .flat_map(|interface| &interface.addresses)
    {
        endpoints.extend(
            own_ports
                .iter()
                .map(|&port| SocketAddr::new(*address, port)),
        );
    }
    endpoints
}

fn watch_signals(events: Sender<Event>) -> Result<(), Diagnostic> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])
        .map_err(|error| bug("cannot watch signals", &error))?;
    let watch = move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map_err(|error| bug("cannot watch signals", &error))?;
    Ok(())
}

fn answer(view: &View, events: &Sender<Event>, request: Request) -> Response {
    match request {
        Request::Status => Response {
            status: Some(view.status(State::Running)),
            ..Response::default()
        },
        Request::On => Response::say(Exit::Done, "sniffer: ERROR (already started)"),
        Request::Off => forward(events, Event::Off),
        Request::Reload => forward(events, Event::Reload),
    }
}

/// Has the watching thread answer. When it is gone, so is the capture.
fn forward(events: &Sender<Event>, event: impl FnOnce(Sender<Response>) -> Event) -> Response {
    let (reply, answer) = mpsc::channel();
    let gone = || Response::say(Exit::Done, "sniffer: stopped");
    if events.send(event(reply)).is_err() {
        return gone();
    }
    answer.recv().unwrap_or_else(|_| gone())
}

/// Why the capture ends.
enum Cause {
    Signal,
    Off(Sender<Response>),
    Broken,
}

/// Until somebody wants an end: says what changes, once each time.
fn watch(
    running: &Running,
    events: &mpsc::Receiver<Event>,
    follower: &mut Follower,
    place: Place<'_>,
) -> Cause {
    let talk = place.talk;
    let mut said = Said::default();
    loop {
        match events.recv_timeout(WATCH_EVERY) {
            Ok(Event::Signal(SIGUSR1)) => {
                talk.say(running.view.status(State::Running).render().trim_end());
            }
            Ok(Event::Signal(SIGHUP)) => {
                drop(running.reload(place));
                said.rules_changed();
            }
            Ok(Event::Signal(_)) | Err(RecvTimeoutError::Disconnected) => return Cause::Signal,
            Ok(Event::Reload(reply)) => {
                said.rules_changed();
                let (exit, text) = match running.reload(place) {
                    Ok(said) => (Exit::Done, said),
                    Err(problem) => (problem.exit(), problem.to_string()),
                };
                // A client that went away does not need its answer.
                let _ = reply.send(Response::say(exit, text));
            }
            Ok(Event::Off(reply)) => return Cause::Off(reply),
            Ok(Event::ShardEnded) => return Cause::Broken,
            Ok(Event::Trouble(name, trouble)) => {
                follower.note();
                if let Some(problem) = interface_trouble(&name, trouble) {
                    talk.show(&problem);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                said.changes(&running.view, talk);
                for opened in follower.look(talk) {
                    running.add(opened);
                }
            }
        }
    }
}

/// That an interface is gone says whoever looks for its return.
fn interface_trouble(name: &str, trouble: Trouble) -> Option<Diagnostic> {
    let what = match trouble {
        Trouble::InterfaceDown => format!("{name} went down; capturing on it again once it is up"),
        Trouble::InterfaceGone => return None,
        Trouble::Other(errno) => format!("{name}: {}", std::io::Error::from_raw_os_error(errno)),
    };
    Some(Diagnostic::new(Code::W021, what))
}

/// What was said last, so that nothing is said twice. The uploader speaks for itself.
#[derive(Default)]
struct Said {
    hints: Vec<Code>,
    ring_drops: u64,
    ring_drops_at: Option<Instant>,
    overload: Announced,
}

impl Said {
    /// Other rules: what was said of the old ones may be said of these.
    fn rules_changed(&mut self) {
        let is_of_rules = |code: &Code| matches!(code, Code::W033 | Code::W034);
        self.hints.retain(|code| !is_of_rules(code));
    }

    fn changes(&mut self, view: &View, talk: Talk) {
        let stages = view.stages();
        for hint in view.hints(&stages) {
            if !self.hints.contains(&hint.code) {
                self.hints.push(hint.code);
                talk.show(&hint);
            }
        }
        let drops = stages.get("shard", "ring_dropped_full");
        let is_quiet = self
            .ring_drops_at
            .is_some_and(|at| at.elapsed() < Duration::from_secs(60));
        if drops > self.ring_drops && !is_quiet {
            talk.show(&ring_was_full(drops - self.ring_drops));
            (self.ring_drops, self.ring_drops_at) = (drops, Some(Instant::now()));
        }
        let overload = status::Overload::of(&stages);
        match self.overload.change(&overload, Instant::now()) {
            Some(Change::Begins) => talk.show(&cannot_keep_up(&overload)),
            Some(Change::Ends) => talk.say(format!("keeping up again: {}", overload.counted())),
            None => {}
        }
    }
}

/// What the uploader has to say, in our form. That all is well again is a sentence, not a warning.
fn say_upload(event: &upload::Event, talk: Talk) {
    match (event, Code::find(event.code())) {
        (upload::Event::Up { .. }, _) | (_, None) => talk.say(event),
        (_, Some(code)) => talk.show(&Diagnostic::new(code, event.to_string())),
    }
}

fn ring_was_full(drops: u64) -> Diagnostic {
    Diagnostic::new(
        Code::W070,
        format!("ring full: {} packets dropped", thousands(drops)),
    )
    .fix("--ring-size 64M, or narrow the capture with -i and -p")
}

fn cannot_keep_up(overload: &status::Overload) -> Diagnostic {
    let what = format!("cannot keep up: {}", overload.now());
    Diagnostic::new(Code::W070, what)
        .fix("more shards or a faster machine; or narrow the capture with -i and -p, or `sample` in the rules")
}

/// The other threads, while they run.
struct Running {
    view: Arc<View>,
    shards: Vec<JoinHandle<()>>,
    orders: Vec<Orders>,
    uploader: Option<Uploader>,
    flush_timeout: Duration,
}

/// What is left after the end.
struct Ended {
    view: Arc<View>,
    panicked: bool,
}

impl Running {
    fn start(
        config: Capture,
        choice: &Choice,
        opened: Vec<Opened>,
        (own, roots): (&OwnUpload, Roots),
        events: Sender<Event>,
        metrics: &Endpoint,
        talk: Talk,
    ) -> Result<Self, Diagnostic> {
        let count = config.shards;
        let (outboxes, inboxes) =
            upload::outboxes(count).map_err(|error| bug("cannot make the outboxes", &error))?;
        let uploader = match &config.destination {
            Destination::Url(url) => {
                let mut options = UploadConfig::new(url.clone());
                options.queue_bundles = config.bundles_kept_max;
                options.queue_bytes = options.queue_bytes.min(upload_memory(&config.reading));
                options.seed = random();
                options.roots = roots;
                let say = move |event: &upload::Event| say_upload(event, talk);
                Some(
                    Uploader::start(options, inboxes, say)
                        .map_err(|error| bug("cannot start the uploader", &error))?,
                )
            }
            Destination::Nowhere(_) => None,
        };
        let steering = steering(&opened);
        let rings = opened.iter().flat_map(|opened| &opened.sources);
        let ring_bytes = rings.map(|source| source.ring.bytes() as u64).sum();
        let published: Vec<Arc<Published>> = (0..count).map(|_| Arc::default()).collect();
        let mut by_shard: Vec<Vec<Source>> = (0..count).map(|_| Vec::new()).collect();
        for opened in opened {
            for (sources, source) in by_shard.iter_mut().zip(opened.sources) {
                sources.push(source);
            }
        }
        let rules = RuleWatch::new(&config.reading.rules, count, &Stages::default());
        let cores = cpu::allowed();
        let crossings = (count > 1).then(|| (Arc::<Crossings>::default(), random()));
        let mut shards = Vec::new();
        let mut orders = Vec::new();
        for (index, (sources, outbox)) in by_shard.into_iter().zip(outboxes).enumerate() {
            let order = Orders::new().map_err(|error| bug("cannot make an eventfd", &error))?;
            let outbox = uploader.is_some().then_some(outbox);
            let mut pipeline = pipeline_config(
                &config.reading,
                config.engine,
                &choice.kernel_vxlan_ports,
                count,
            );
            pipeline.flow.hash_seed = random();
            pipeline.message.sample_seed = random();
            pipeline.flow.openings_seed = crossings.as_ref().map(|(_, seed)| *seed);
            let witness = crossings.as_ref().map(|(crossings, _)| Witness {
                crossings: Arc::clone(crossings),
                shard: index,
            });
            // A clone has matching caches of its own, so that shards take no lock of each other's.
            let set = Arc::new((*config.reading.rules.set).clone());
            let compression = match outbox {
                Some(_) => config.compression,
                None => Compression::Off,
            };
            let pipeline = Pipeline::new(&pipeline, set, bundler(&config, compression));
            let shard = Shard::new(
                sources,
                pipeline,
                (outbox, compression),
                own.clone(),
                (
                    Arc::clone(&published[index]),
                    rules.cells()[index].clone(),
                    witness,
                ),
                order.clone(),
                events.clone(),
            );
            let core = (count > 1)
                .then(|| cores.get(index % cores.len().max(1)).copied())
                .flatten();
            shards.push(
                shard
                    .spawn(index, core, config.flush_timeout)
                    .map_err(|error| bug("cannot start a shard", &error))?,
            );
            orders.push(order);
        }
        let view = Arc::new(View {
            setting: setting(&config, choice),
            started: Instant::now(),
            interfaces: choice
                .interfaces
                .iter()
                .map(|interface| interface.name.clone())
                .collect(),
            reads: reads(&config),
            ring_bytes,
            steering,
            memory_limit_bytes: config.reading.memory_bytes as u64,
            rules: Mutex::new(rules),
            url: match &config.destination {
                Destination::Url(url) => url.to_string(),
                Destination::Nowhere(why) => format!("nowhere ({why})"),
            },
            sentence: sentence(&config, choice, (count, steering), uploader.as_ref()),
            uploads: uploader.as_ref().map(Uploader::stats),
            published,
            confinement: OnceLock::new(),
            began: SystemTime::now(),
            metrics: match metrics {
                Endpoint::Taken(problem) => Err(problem.clone()),
                served => Ok(served
                    .address()
                    .map(|at| format!("http://{at}/metrics"))
                    .unwrap_or_default()),
            },
            needs_output: config.ready_needs_output,
            reloads: Reloads::default(),
        });
        Ok(Self {
            view,
            shards,
            orders,
            uploader,
            flush_timeout: config.flush_timeout,
        })
    }

    /// Confines the system calls of all threads, which are there by now; `files` were when there was one.
    fn confine(&self, mut plan: Plan, files: Option<Files>) -> &Confinement {
        plan.uses_uring = self
            .uploader
            .as_ref()
            .is_some_and(|uploader| uploader.stats().snapshot().driver == upload::IO_URING);
        self.view.confinement.get_or_init(|| match files {
            Some(files) => Confinement::after(files, &plan),
            None => Confinement::Unwanted,
        })
    }

    /// Gives each shard its ring on an interface that came.
    fn add(&self, opened: Opened) {
        for (order, source) in self.orders.iter().zip(opened.sources) {
            order.add_source(source);
        }
    }

    /// Gives all shards the rules as they are now. Calls that are open keep what the old ones let through; rules with an
    /// error change nothing.
    fn reload(&self, place: Place<'_>) -> Result<String, Diagnostic> {
        let rules = (place.reload)().inspect_err(|problem| {
            self.view.reloads.bad.fetch_add(1, Ordering::Relaxed);
            place.talk.show(problem);
            place.talk.say("the old rules stay");
        })?;
        let watch = RuleWatch::new(&rules, self.orders.len(), &self.view.stages());
        for (order, cells) in self.orders.iter().zip(watch.cells()) {
            order.set_rules(Arc::new((*rules.set).clone()), cells.clone());
        }
        *self.view.rules() = watch;
        self.view.reloads.good.fetch_add(1, Ordering::Relaxed);
        let late = match self.wait_for_rules() {
            true => "",
            false => " (capture threads that are busy take them with their next turn)",
        };
        let said = format!("rules read again: {}{late}", rules.name);
        place.talk.say(&said);
        Ok(said)
    }

    /// Whether all shards judge by the new rules: whoever is told so may rely on it for what begins from now on.
    fn wait_for_rules(&self) -> bool {
        let since = Instant::now();
        loop {
            if self.orders.iter().all(Orders::has_taken_rules) {
                return true;
            }
            if since.elapsed() > limits::SHARD_BEAT_MAX {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends everything in the order of the data: rings, pipelines, bundles, uploader.
    fn stop(self) -> Ended {
        let deadline = Instant::now() + self.flush_timeout;
        for order in &self.orders {
            order.stop();
        }
        let panicked = self
            .shards
            .into_iter()
            .map(|shard| shard.join().is_err())
            .fold(false, |any, panicked| any | panicked);
        if let Some(uploader) = self.uploader {
            uploader.stop(
                deadline
                    .saturating_duration_since(Instant::now())
                    .max(FLUSH_MIN),
            );
        }
        Ended {
            view: self.view,
            panicked,
        }
    }
}

/// The weakest of all interfaces' steerings.
fn steering(opened: &[Opened]) -> Steering {
    let weakest = opened
        .iter()
        .map(|opened| opened.steering)
        .find(|steering| *steering == Steering::OuterHash);
    weakest
        .or_else(|| opened.first().map(|opened| opened.steering))
        .unwrap_or(Steering::Single)
}

fn bundler(config: &Capture, compression: Compression) -> Bundler {
    Bundler::new(bundle::Config {
        bytes: config.bundle_bytes,
        compression,
        id_seed: random(),
        ..bundle::Config::default()
    })
}

/// The pipeline's configuration, live and from files alike; with fixed seeds, so that a file always gives the same.
pub fn pipeline_config(
    reading: &Reading,
    engine: Engine,
    kernel_vxlan_ports: &[u16],
    shards: usize,
) -> engine_core::pipeline::Config {
    let memory = reading.memory_bytes - upload_memory(reading);
    let config = engine_core::pipeline::Config {
        decap: engine_core::decap::Config {
            vxlan_ports: reading
                .vxlan_ports
                .iter()
                .copied()
                .filter(|port| !kernel_vxlan_ports.contains(port))
                .collect(),
            vnis: reading.vnis.clone(),
            only_tunnelled: engine == Engine::Mirror,
            ..engine_core::decap::Config::default()
        },
        http: http::Config {
            ports: reading.ports.clone(),
            ..http::Config::default()
        },
        message: message::Config {
            host: reading.host.clone(),
            body_bytes_max: reading.body_bytes_max,
            annotate: reading.annotate,
            half_calls: reading.half_calls,
            form_params: reading.form_params,
            client_address: reading.client_address,
            realip_header: reading.realip_header.clone(),
            ..message::Config::default()
        },
        ..engine_core::pipeline::Config::default()
    };
    config.within(memory / shards)
}

/// What of the memory limit is for bundles that wait for delivery; the rest is the shards'. The same whether anything is
/// delivered or not, so that a capture file gives the lines that the live capture gave.
fn upload_memory(reading: &Reading) -> usize {
    reading.memory_bytes / 8
}

/// Eight bytes of the kernel's randomness; the clock where there is none.
fn random() -> u64 {
    use std::io::Read;
    let mut bytes = [0; 8];
    match std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => shard::now().nanos(),
    }
}

/// `VXLAN 4789, all VNIs` or `any port`.
fn reads(config: &Capture) -> String {
    let reading = &config.reading;
    let tunnels: Vec<String> = reading
        .vxlan_ports
        .iter()
        .map(ToString::to_string)
        .collect();
    let ports = match reading.ports_text.as_str() {
        "any port" => "any port".to_owned(),
        list => format!("port {list}"),
    };
    match config.engine {
        Engine::Mirror => format!(
            "VXLAN {}, {}; {}",
            tunnels.join(","),
            reading.vnis_text,
            ports
        ),
        Engine::Interfaces if reading.vnis.wants_all() => {
            format!("{ports}, also inside VXLAN {}", tunnels.join(","))
        }
        Engine::Interfaces => format!(
            "{ports}, also inside VXLAN {}, VNIs {}",
            tunnels.join(","),
            reading.vnis_text
        ),
    }
}

/// What is captured, as far as it explains silence.
fn setting(config: &Capture, choice: &Choice) -> Setting {
    let reading = &config.reading;
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    let vxlan_ports: Vec<String> = reading
        .vxlan_ports
        .iter()
        .map(ToString::to_string)
        .collect();
    Setting {
        engine: config.engine,
        interfaces: names.join(", "),
        ports: (reading.ports_text != "any port").then(|| reading.ports_text.clone()),
        vxlan_ports: vxlan_ports.join(","),
        vnis: reading.vnis_text.clone(),
    }
}

/// What will happen, in one sentence.
fn sentence(
    config: &Capture,
    choice: &Choice,
    (shards, steering): (usize, Steering),
    uploader: Option<&Uploader>,
) -> String {
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    let deflate = match config.compression {
        Compression::Off | Compression::Level(0) => "off".to_owned(),
        Compression::Fast => "on".to_owned(),
        Compression::Level(level) => format!("level {level}"),
    };
    let driver = uploader
        .map(|uploader| uploader.stats().snapshot().driver)
        .unwrap_or_default();
    let destination = match &config.destination {
        Destination::Url(url) => format!("sending to {url} (deflate {deflate}, uploader {driver})"),
        Destination::Nowhere(why) => format!("sending nothing ({why})"),
    };
    format!(
        "capturing HTTP on {} ({}), {}{}, rules {:?},\n{destination}. Ctrl-C stops and flushes.",
        names.join(", "),
        reads(config),
        plural(shards as u64, "shard"),
        match steering {
            Steering::Single => String::new(),
            steering => format!(" ({steering})"),
        },
        config.reading.rules.name,
    )
}
