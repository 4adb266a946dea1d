//! What the user typed: the command line as clap reads it, unchecked. The checked forms are in [`config`](super).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::settings::Values;
use crate::diagnostic::Colour;

/// Passive API-call sniffer: packets in, masked NDJSON calls out.
#[derive(Debug, Parser)]
#[command(
    name = "sniffer",
    version,
    disable_help_subcommand = true,
    max_term_width = 110
)]
#[command(
    after_help = "Without a command: the status of the running sniffer. `sniffer help E041` explains a message."
)]
pub struct Cli {
    /// How we talk.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Status as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub struct GlobalFlags {
    /// Colour: auto, always or never.
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        global = true,
        hide_possible_values = true
    )]
    pub color: Colour,
    /// Say errors only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Unknown environment settings are warnings.
    #[arg(long, global = true)]
    pub lenient: bool,
    /// Control socket [env: SNIFFER_CONTROL].
    #[arg(long, value_name = "PATH", global = true)]
    pub control: Option<PathBuf>,
    /// Do not confine files, ports and system calls after the start [env: SNIFFER_NO_SANDBOX].
    #[arg(long, global = true)]
    pub no_sandbox: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture in the foreground.
    Run(RunFlags),
    /// Store, page and capture in one: the store runs at once, capture after `sniffer on`.
    AllInOne(AllInOneFlags),
    /// All-in-one on loopback with calls of its own making.
    Demo(DemoFlags),
    /// Start capturing in the running all-in-one.
    On,
    /// Stop capturing; what was captured is delivered first.
    Off,
    /// What runs, and where every call went.
    Status(StatusFlags),
    /// Look at what a capture would meet, and say what could be better; changes nothing.
    Check(CheckFlags),
    /// Read calls from capture files (pcap, pcapng, .gz, .zst, folders, - for standard input).
    Read(ReadFlags),
    /// The embedded store alone: capture URL and page.
    Store(StoreFlags),
    /// Check rules, or have them read again.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Interfaces that can be captured.
    #[command(alias = "devices")]
    Interfaces,
    /// Explain a message (`sniffer help E041`) or a command.
    Help {
        /// A code or a command.
        topic: Option<String>,
    },
    /// Version.
    Version,
}

/// `sniffer rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Parse rules and show how they are understood; those of the environment if none are given.
    Check {
        /// A file, - for standard input, or the text itself.
        #[arg(value_name = "FILE")]
        rules: Option<String>,
    },
    /// Show the calls of capture files before and after the rules, and how often each rule acts.
    Test(RulesTestFlags),
    /// Apply rules to details: one JSON object a line on standard input, one JSON value a line on standard output.
    ///
    /// In: {"rules": TEXT, "details": [[KEY, VALUE], ...]}. Out: the details that are left, null for a dropped call, or
    /// {"error": CLASS, "message": TEXT, "line": NUMBER, "column": NUMBER}.
    Apply,
    /// Have the running sniffer read its rules file again.
    Reload,
}

/// `sniffer rules test`.
#[derive(Args, Clone, Debug)]
pub struct RulesTestFlags {
    /// Capture files and folders; - is standard input.
    #[arg(required = true, value_name = "CAPTURE")]
    pub files: Vec<PathBuf>,
    /// Rules: text, or file:///PATH; default those of the environment.
    #[arg(long, value_name = "TEXT")]
    pub rules: Option<String>,
    /// Show only so many calls; all count.
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub calls: Option<u64>,
}

/// Settings of a live capture. Each has an environment variable; the flag wins.
#[derive(Args, Clone, Debug, Default)]
pub struct CaptureFlags {
    /// Interfaces: names, prefix*, addresses; default all that are up [env: NET_DEVICE].
    #[arg(short = 'i', long, value_name = "NAMES")]
    pub interface: Vec<String>,
    /// Ports to read: 80,8000-8100; default HTTP on any [env: APP_PORTS].
    #[arg(short, long, value_name = "PORTS")]
    pub ports: Option<String>,
    /// auto, af_packet, vxlan, mirror [env: SNIFFER_ENGINE].
    #[arg(long, value_name = "NAME")]
    pub engine: Option<String>,
    /// UDP ports of VXLAN, default 4789 [env: SNIFFER_MIRROR_VXLANPORT].
    #[arg(long, value_name = "PORTS")]
    pub vxlan_port: Option<String>,
    /// Networks: 1,2 takes these, -7 all but this [env: SNIFFER_MIRROR_VNIS].
    #[arg(long, value_name = "VNIS", allow_hyphen_values = true)]
    pub vni: Option<String>,
    /// Capture URL, https://HOST/message [env: USAGE_LOGGERS_URL].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Logging rules: text, or file:///PATH; default `include default` [env: USAGE_LOGGERS_RULES].
    #[arg(long, value_name = "TEXT")]
    pub rules: Option<String>,
    /// Count calls, send nothing [env: USAGE_LOGGERS_DISABLE].
    #[arg(long)]
    pub no_send: bool,
    /// Bytes of a body that are kept, default 1M [env: USAGE_LOGGERS_BODY_LIMIT].
    #[arg(long, value_name = "BYTES")]
    pub body_limit: Option<String>,
    /// Bytes of lines in one POST, default 512K [env: USAGE_LOGGERS_BUNDLE_SIZE].
    #[arg(long, value_name = "BYTES")]
    pub bundle_size: Option<String>,
    /// Memory for flows, open calls and bundles, default a quarter of what there is up to 512M [env: SNIFFER_MEMORY_LIMIT].
    #[arg(long, value_name = "BYTES")]
    pub memory_limit: Option<String>,
    /// POSTs kept while the destination is away, default 128 [env: USAGE_LOGGERS_BUNDLE_QUEUE_SIZE].
    #[arg(long, value_name = "COUNT")]
    pub bundle_queue_size: Option<String>,
    /// Capture threads, default one per core [env: SNIFFER_SHARDS].
    #[arg(long, value_name = "COUNT")]
    pub shards: Option<String>,
    /// Bytes of a capture thread's packet rings, default 32M [env: SNIFFER_PCAP_BUFFER_SIZE].
    #[arg(long, value_name = "BYTES")]
    pub ring_size: Option<String>,
    /// Only packets that match, in the language of tcpdump: host, net, port, portrange, ip, ip6, tcp, udp, icmp, src,
    /// dst, and, or, not; numbers only; of the outer packet [env: SNIFFER_BPF].
    #[arg(long, value_name = "FILTER")]
    pub bpf: Option<String>,
    /// Take packets that are not addressed to this machine [env: SNIFFER_PROMISC_ENABLED].
    #[arg(long)]
    pub promisc: bool,
    /// Add where and how each call was seen, as custom fields [env: SNIFFER_ANNOTATE].
    #[arg(long)]
    pub annotate: bool,
    /// Also send requests without response and responses without request [env: SNIFFER_HALF_CALLS].
    #[arg(long)]
    pub half_calls: bool,
    /// Add the client's address as request_header:x-forwarded-for [env: SNIFFER_CLIENT_ADDRESS].
    #[arg(long)]
    pub client_address: bool,
    /// Set this request header to the client's address [env: SNIFFER_REALIP_HEADER].
    #[arg(long, value_name = "NAME")]
    pub realip_header: Option<String>,
    /// Add the fields of form bodies as request_param [env: SNIFFER_FORM_PARAMS].
    #[arg(long)]
    pub form_params: bool,
    /// auto, off, or 1 (fast) to 9 (small); auto sends plain to this machine [env: SNIFFER_COMPRESSION].
    #[arg(long, value_name = "WHEN")]
    pub compression: Option<String>,
    /// How long to go on delivering after a stop, default 5s [env: SNIFFER_FLUSH_TIMEOUT].
    #[arg(long, value_name = "TIME")]
    pub flush_timeout: Option<String>,
    /// Address of /metrics, /livez and /readyz, or off; default 127.0.0.1:7702 [env: SNIFFER_METRICS].
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,
    /// /readyz fails when the destination is down for a minute [env: SNIFFER_READY_NEEDS_OUTPUT].
    #[arg(long)]
    pub ready_needs_output: bool,
}

impl CaptureFlags {
    /// Puts what was given over the environment's values.
    pub fn apply(&self, values: &mut Values) {
        if !self.interface.is_empty() {
            values.set_flag("NET_DEVICE", self.interface.join(","));
        }
        let texts = [
            ("APP_PORTS", &self.ports),
            ("SNIFFER_ENGINE", &self.engine),
            ("SNIFFER_MIRROR_VXLANPORT", &self.vxlan_port),
            ("SNIFFER_MIRROR_VNIS", &self.vni),
            ("USAGE_LOGGERS_URL", &self.url),
            ("USAGE_LOGGERS_RULES", &self.rules),
            ("USAGE_LOGGERS_BODY_LIMIT", &self.body_limit),
            ("USAGE_LOGGERS_BUNDLE_SIZE", &self.bundle_size),
            ("USAGE_LOGGERS_BUNDLE_QUEUE_SIZE", &self.bundle_queue_size),
            ("SNIFFER_MEMORY_LIMIT", &self.memory_limit),
            ("SNIFFER_SHARDS", &self.shards),
            ("SNIFFER_BPF", &self.bpf),
            ("SNIFFER_PCAP_BUFFER_SIZE", &self.ring_size),
            ("SNIFFER_COMPRESSION", &self.compression),
            ("SNIFFER_REALIP_HEADER", &self.realip_header),
            ("SNIFFER_FLUSH_TIMEOUT", &self.flush_timeout),
            ("SNIFFER_METRICS", &self.metrics),
        ];
        for (env, text) in texts {
            if let Some(text) = text {
                values.set_flag(env, text);
            }
        }
        let switches = [
            ("USAGE_LOGGERS_DISABLE", self.no_send),
            ("SNIFFER_PROMISC_ENABLED", self.promisc),
            ("SNIFFER_ANNOTATE", self.annotate),
            ("SNIFFER_HALF_CALLS", self.half_calls),
            ("SNIFFER_CLIENT_ADDRESS", self.client_address),
            ("SNIFFER_FORM_PARAMS", self.form_params),
            ("SNIFFER_READY_NEEDS_OUTPUT", self.ready_needs_output),
        ];
        for (env, on) in switches {
            if on {
                values.set_flag(env, "true");
            }
        }
    }
}

/// `sniffer check`.
#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// As `run` would be started.
    #[command(flatten)]
    pub capture: CaptureFlags,
    /// Also what those need to know who set up a traffic mirror.
    #[arg(long)]
    pub mirror: bool,
    /// The host's tuning and nothing else.
    #[arg(long)]
    pub tuning: bool,
    /// As JSON, with stable keys.
    #[arg(long)]
    pub json: bool,
}

/// `sniffer run`.
#[derive(Args, Debug)]
pub struct RunFlags {
    /// What and how to capture.
    #[command(flatten)]
    pub capture: CaptureFlags,
    /// The destination is the embedded store: plain http is allowed, rules default to `include debug`.
    #[arg(long, hide = true)]
    pub embedded_store: bool,
    /// Ports of this machine that are our own: connections to them are not read.
    #[arg(long, hide = true, value_delimiter = ',')]
    pub own_ports: Vec<u16>,
    /// A supervisor started us: end with it.
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// Settings of the embedded store.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreFlags {
    /// Folder of the database [env: SNIFFER_DATA].
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Address of the capture URL, default :7701 [env: SNIFFER_STORE].
    #[arg(long, value_name = "ADDRESS")]
    pub store: Option<String>,
    /// Address of the page, default 127.0.0.1:7700 [env: SNIFFER_UI].
    #[arg(long, value_name = "ADDRESS")]
    pub ui: Option<String>,
    /// A supervisor started us: end with it.
    #[arg(long, hide = true)]
    pub supervised: bool,
}

impl StoreFlags {
    /// Puts what was given over the environment's values.
    pub fn apply(&self, values: &mut Values) {
        for (env, text) in [
            ("SNIFFER_DATA", &self.data),
            ("SNIFFER_STORE", &self.store),
            ("SNIFFER_UI", &self.ui),
        ] {
            if let Some(text) = text {
                values.set_flag(env, text);
            }
        }
    }
}

/// `sniffer all-in-one`.
#[derive(Args, Clone, Debug, Default)]
pub struct AllInOneFlags {
    /// What and how to capture.
    #[command(flatten)]
    pub capture: CaptureFlags,
    /// The store.
    #[command(flatten)]
    pub store: StoreFlags,
    /// Capture at once, without waiting for `sniffer on` [env: SNIFFER_AUTOSTART].
    #[arg(long)]
    pub on: bool,
}

/// `sniffer demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoFlags {
    /// Rules, as for `run`; default `include debug`.
    #[arg(long, value_name = "TEXT")]
    pub rules: Option<String>,
    /// The store. Without --data the calls are kept in a temporary folder.
    #[command(flatten)]
    pub store: StoreFlags,
    /// Port of the demo's HTTP server; default any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Make the calls, to a sniffer that already runs, and end.
    #[arg(long)]
    pub calls_only: bool,
    /// End by itself after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub exit_after: Option<u64>,
}

/// `sniffer status`.
#[derive(Args, Debug)]
pub struct StatusFlags {
    /// As JSON, with stable keys.
    #[arg(long)]
    pub json: bool,
}

/// `sniffer read`.
#[derive(Args, Clone, Debug)]
pub struct ReadFlags {
    /// Files and folders; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Ports to read: all, or 80,8000-8100; default all.
    #[arg(short, long, value_name = "PORTS")]
    pub ports: Option<String>,
    /// Logging rules: text, or file:///PATH; default `include default`.
    #[arg(long, value_name = "TEXT")]
    pub rules: Option<String>,
    /// Form of the output: table on a terminal, ndjson elsewhere.
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<Form>,
    /// The same as -o ndjson.
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// UDP ports of VXLAN, default 4789.
    #[arg(long, value_name = "PORTS")]
    pub vxlan_port: Option<String>,
    /// Networks: 1,2 takes these, -7 all but this.
    #[arg(long, value_name = "VNIS", allow_hyphen_values = true)]
    pub vni: Option<String>,
    /// Also print requests without response and responses without request.
    #[arg(long)]
    pub half_calls: bool,
    /// Add where and how each call was seen, as custom fields.
    #[arg(long)]
    pub annotate: bool,
    /// Add the client's address as request_header:x-forwarded-for [env: SNIFFER_CLIENT_ADDRESS].
    #[arg(long)]
    pub client_address: bool,
    /// Set this request header to the client's address [env: SNIFFER_REALIP_HEADER].
    #[arg(long, value_name = "NAME")]
    pub realip_header: Option<String>,
    /// Add the fields of form bodies as request_param [env: SNIFFER_FORM_PARAMS].
    #[arg(long)]
    pub form_params: bool,
    /// Bytes of a body that are kept, default 1M.
    #[arg(long, value_name = "BYTES")]
    pub body_limit: Option<String>,
    /// Memory for flows and open calls, default a quarter of what there is up to 512M.
    #[arg(long, value_name = "BYTES")]
    pub memory_limit: Option<String>,
    /// Exit with 8 when a call is half or cut, or anything is unaccounted.
    #[arg(long)]
    pub strict: bool,
    /// Write where every packet, byte and call went, as `status --json` has it; - is behind the calls.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

impl ReadFlags {
    /// Puts what was given over the environment's values.
    pub fn apply(&self, values: &mut Values) {
        let capture = CaptureFlags {
            ports: self.ports.clone(),
            rules: self.rules.clone(),
            vxlan_port: self.vxlan_port.clone(),
            vni: self.vni.clone(),
            half_calls: self.half_calls,
            annotate: self.annotate,
            client_address: self.client_address,
            realip_header: self.realip_header.clone(),
            form_params: self.form_params,
            body_limit: self.body_limit.clone(),
            memory_limit: self.memory_limit.clone(),
            ..CaptureFlags::default()
        };
        capture.apply(values);
    }
}

/// Form of what `read` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One JSON line a call, as it would be sent.
    Ndjson,
    /// A line a call, for people.
    Table,
}
