//! The command line as clap reads it. The flags of settings come from their [table](super::settings); those that are
//! no settings stand here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::flags::{Flags, GLOBAL_HEADING};
use super::setting::{
    ALL_IN_ONE, CHECK, DEMO, EVERY, EXPORT, IMPORT, NAMED, READ, RULES_TEST, RUN, SPOOL, STORE,
};
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
    after_help = "Without a command: the status of the running sniffer. `sniffer help TOPIC` explains a command, a message\n\
                  (E041) or a setting (SNIFFER_SHARDS)."
)]
pub struct Cli {
    /// Status as JSON.
    #[arg(long)]
    pub json: bool,
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = GLOBAL_HEADING)]
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
    /// Print errors only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Warn of unknown settings in the environment instead of refusing them.
    #[arg(long, global = true)]
    pub lenient: bool,
    /// Settings of every command.
    #[command(flatten)]
    pub settings: Flags<EVERY>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture in the foreground.
    Run(RunFlags),
    /// Store, page and capture in one: the store runs at once, capture after `sniffer on`.
    AllInOne(AllInOneFlags),
    /// All-in-one on loopback, with built-in calls to capture.
    Demo(DemoFlags),
    /// Start capturing in the running all-in-one.
    On,
    /// Deliver what was captured, then stop capturing.
    Off,
    /// What runs, and where every call went.
    Status(StatusFlags),
    /// What the capture does, as it does it: by shard, network, host, endpoint and port.
    Top(TopFlags),
    /// Print the link that opens the page of the running all-in-one.
    Page,
    /// The newest calls in the store, and with -f each one that comes.
    Tail(TailFlags),
    /// A query in SQL over the newest calls in the store, as the table calls.
    Query(QueryFlags),
    /// Delete the calls in the store that match a filter, such as those of one person.
    Delete(DeleteFlags),
    /// What each port was seen to use, and the APP_PORTS line for those with HTTP.
    Ports(JsonFlags),
    /// Each setting as it is in effect, and where its value comes from.
    Config(ConfigFlags),
    /// Write a report for somebody who helps: settings and counters, no secrets, no packets, no calls.
    Report(ReportFlags),
    /// Check everything on which a capture depends; changes nothing.
    Check(CheckFlags),
    /// Answer the numbered calls of `sniffer check --canary 100`, at a peer of the machine that is captured.
    #[command(subcommand)]
    Canary(CanaryCommand),
    /// Read calls from capture files (pcap, pcapng, .gz, .zst, folders, - for standard input).
    Read(ReadFlags),
    /// The embedded store alone: capture URL and page.
    Store(StoreFlags),
    /// Check, test and apply rules, or make the running sniffer read them again.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// What waits on disk for a destination: show, deliver, print or discard it.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Interfaces that can be captured, with the packets a second of each.
    #[command(alias = "devices")]
    Interfaces,
    /// Print the dashboard of the metrics for Grafana, or the alert rules for Prometheus.
    Dashboard(DashboardFlags),
    /// Print the completions of a shell.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        #[arg(value_name = "SHELL", hide_possible_values = true)]
        shell: clap_complete::Shell,
    },
    /// Print a man page, or write all of them.
    Man {
        /// The command; without one the page of the program.
        command: Vec<String>,
        /// Write the pages of all commands to this folder.
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        all: Option<PathBuf>,
    },
    /// Explain a message (`sniffer help E041`), a setting or a command.
    Help {
        /// A command, a code, or the name of a setting in the environment.
        topic: Option<String>,
    },
    /// Version.
    Version,
    /// Does for a confined capture, which starts it, what that may not do itself.
    #[command(subcommand, hide = true)]
    Delegate(DelegateCommand),
}

/// `sniffer delegate`.
#[derive(Debug, Subcommand)]
pub enum DelegateCommand {
    /// Looks up a host name.
    Name {
        /// Without a sandbox.
        #[arg(long)]
        unconfined: bool,
        /// The host.
        host: String,
        /// The port that is to be connected to.
        port: u16,
    },
    /// Reads a file of rules.
    Rules {
        /// Without a sandbox.
        #[arg(long)]
        unconfined: bool,
        /// The file.
        file: PathBuf,
    },
    /// Reads files of certificates and keys.
    Files {
        /// Without a sandbox.
        #[arg(long)]
        unconfined: bool,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Connects to a Unix socket.
    Socket {
        /// Without a sandbox.
        #[arg(long)]
        unconfined: bool,
        /// The socket.
        path: PathBuf,
    },
}

/// `sniffer canary`.
#[derive(Debug, Subcommand)]
pub enum CanaryCommand {
    /// Answer numbered calls until it is stopped.
    Serve(CanaryServeFlags),
}

/// `sniffer canary serve`.
#[derive(Args, Clone, Copy, Debug)]
pub struct CanaryServeFlags {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7703")]
    pub listen: SocketAddr,
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
    /// Show calls before and after the rules, and how often each rule acts.
    ///
    /// The calls of capture files, or else the newest of the store. A stored call is one after the rules that were in force.
    Test(RulesTestFlags),
    /// Show which rule removes, changes or stops what of each call.
    ///
    /// The calls are those of `rules test`.
    Explain(RulesTestFlags),
    /// Apply rules to details: one JSON object a line on standard input, one JSON value a line on standard output.
    ///
    /// In: {"rules": TEXT, "details": [[KEY, VALUE], ...]}. Out: the details that are left, null for a dropped call, or
    /// {"error": CLASS, "message": TEXT, "line": NUMBER, "column": NUMBER}.
    Apply,
    /// Make the running sniffer read its rules file again.
    Reload,
}

/// `sniffer rules test` and `explain`.
#[derive(Args, Clone, Debug)]
pub struct RulesTestFlags {
    /// Capture files and folders; - is standard input; without any the newest calls of the store.
    #[arg(value_name = "CAPTURE")]
    pub files: Vec<PathBuf>,
    /// Only calls of the store that match, such as 'status>=500 and host==api.shop' (`sniffer help E130`).
    #[arg(long = "where", value_name = "FILTER", conflicts_with = "files")]
    pub filter: Option<String>,
    /// The store.
    #[command(flatten)]
    pub store: StoreAddress,
    /// The rules to test.
    #[command(flatten)]
    pub settings: Flags<RULES_TEST>,
    /// Show at most this number of calls; all count.
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub calls: Option<u64>,
}

/// `sniffer spool`.
#[derive(Clone, Debug, Subcommand)]
pub enum SpoolCommand {
    /// What waits, by spool segment.
    Status {
        /// The settings.
        #[command(flatten)]
        flags: SpoolFlags,
        /// As JSON, with stable keys.
        #[arg(long)]
        json: bool,
    },
    /// Deliver everything that waits, also what is held because the rules have changed.
    Drain(SpoolFlags),
    /// Print the calls that wait, as NDJSON.
    Export(SpoolFlags),
    /// Give up the calls that are held because the rules have changed.
    Discard {
        /// The settings.
        #[command(flatten)]
        flags: SpoolFlags,
        /// Give up everything that waits.
        #[arg(long)]
        all: bool,
    },
}

/// The settings of `sniffer spool`.
#[derive(Args, Clone, Debug)]
pub struct SpoolFlags {
    /// Those with which `run` would be started.
    #[command(flatten)]
    pub settings: Flags<SPOOL>,
}

/// `sniffer check`.
#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// The settings with which `run` would be started.
    #[command(flatten)]
    pub settings: Flags<CHECK>,
    /// Also advise on the setup of a traffic mirror.
    #[arg(long)]
    pub mirror: bool,
    /// Check only the tuning of the host.
    #[arg(long)]
    pub tuning: bool,
    /// Make this number of calls to a `sniffer canary serve`, and count which of them are in the store of the sniffer between.
    #[arg(long, value_name = "COUNT", requires = "to", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub canary: Option<u64>,
    /// Where `sniffer canary serve` runs: http://HOST:7703.
    #[arg(long, value_name = "URL", requires = "canary")]
    pub to: Option<String>,
    /// Counters of the sniffer between, for the causes of what is missing: http://HOST:7702/metrics.
    #[arg(long, value_name = "URL", requires = "canary")]
    pub counters: Option<String>,
    /// The store of the sniffer between.
    #[command(flatten)]
    pub store: StoreAddress,
    /// As JSON, with stable keys.
    #[arg(long)]
    pub json: bool,
}

/// `sniffer run`.
#[derive(Args, Debug)]
pub struct RunFlags {
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<RUN>,
    /// The destination is the embedded store: plain http is allowed, rules default to `include debug`.
    #[arg(long, hide = true)]
    pub embedded_store: bool,
    /// Ports of the embedded store and the page at all addresses of this machine: connections to them are not read.
    #[arg(long, hide = true, value_delimiter = ',')]
    pub own_ports: Vec<u16>,
    /// Addresses of the database behind the embedded store: connections to them are not read.
    #[arg(long, hide = true, value_delimiter = ',')]
    pub own_addresses: Vec<SocketAddr>,
    /// A supervisor started this process, which ends with it.
    #[arg(long, hide = true)]
    pub supervised: bool,
    /// Captures of the same supervisor that were killed before.
    #[arg(long, hide = true, default_value_t = 0)]
    pub killed_captures: u64,
    /// Calls that they had in flight.
    #[arg(long, hide = true, default_value_t = 0)]
    pub killed_calls: u64,
}

/// `sniffer store`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct StoreFlags {
    /// Instead of serving.
    #[command(subcommand)]
    pub command: Option<StoreCommand>,
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<STORE>,
    /// A supervisor started this process, which ends with it.
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// What is done with a store instead of serving it.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Print all calls of the store in --data, in the order of their arrival, for another store.
    Export(ExportFlags),
    /// Store the calls of an export: in the store at --url, or in --data, which no store may have open.
    Import(ImportFlags),
    /// Make the tables of the store in the ClickHouse of --store-backend, or bring them up to date.
    Migrate(MigrateFlags),
}

/// `sniffer store export`.
#[derive(Args, Clone, Debug)]
pub struct ExportFlags {
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<EXPORT>,
    /// Only calls that arrived behind this number, with which an earlier export has ended.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub after: u64,
}

/// `sniffer store import`.
#[derive(Args, Clone, Debug)]
pub struct ImportFlags {
    /// The settings. Of the rules only `allow_http_url` counts: lines are stored as they are.
    #[command(flatten)]
    pub settings: Flags<IMPORT>,
    /// What `sniffer store export` has printed; - is standard input.
    pub file: PathBuf,
}

/// `sniffer store migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateFlags {
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<STORE>,
    /// Print the statements and carry none out.
    #[arg(long)]
    pub print: bool,
    /// Make them on all servers of this cluster, as ?cluster=NAME does.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

/// `sniffer all-in-one`.
#[derive(Args, Clone, Debug)]
pub struct AllInOneFlags {
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<ALL_IN_ONE>,
}

/// `sniffer demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoFlags {
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<DEMO>,
    /// Port of the demo's HTTP server; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Make the calls for a sniffer that already runs, and end.
    #[arg(long)]
    pub calls_only: bool,
    /// End after this number of seconds.
    #[arg(long, value_name = "SECONDS")]
    pub exit_after: Option<u64>,
}

/// `sniffer status`.
#[derive(Args, Debug)]
pub struct StatusFlags {
    /// As JSON, with stable keys.
    #[arg(long)]
    pub json: bool,
    /// Print it again every 2 seconds, or as many as are given.
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub watch: Option<u64>,
}

/// `sniffer top`.
#[derive(Args, Clone, Debug)]
pub struct TopFlags {
    /// A node by its host, with the port of its metrics if that is not 7702; may be repeated. This host if none is given.
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Print the present state once, as where there is no terminal.
    #[arg(long)]
    pub once: bool,
    /// The present state as JSON.
    #[arg(long)]
    pub json: bool,
    /// Seconds between two reads of a node.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub interval: u64,
    /// The store whose calls the hosts and endpoints are of.
    #[command(flatten)]
    pub store: StoreAddress,
}

impl TopFlags {
    /// Time between two reads of a node.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }
}

/// `sniffer dashboard`.
#[derive(Args, Clone, Debug)]
pub struct DashboardFlags {
    /// The alert rules for Prometheus instead.
    #[arg(long)]
    pub alerts: bool,
    /// Write it to a new file.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The flag of commands that have a form for programs.
#[derive(Args, Clone, Copy, Debug)]
pub struct JsonFlags {
    /// As JSON, with stable keys.
    #[arg(long)]
    pub json: bool,
}

/// `sniffer config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigFlags {
    /// Only the settings of this command, such as run or store.
    #[arg(long, value_name = "COMMAND")]
    pub of: Option<String>,
    /// Only what was given, not the defaults.
    #[arg(long)]
    pub given: bool,
    /// As JSON, with stable keys.
    #[arg(long)]
    pub json: bool,
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<NAMED>,
}

/// `sniffer report`.
#[derive(Args, Clone, Debug)]
pub struct ReportFlags {
    /// Write it to a new file, which only this user may read.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Which store.
#[derive(Args, Clone, Debug)]
pub struct StoreAddress {
    /// The link of a page, as `sniffer page` prints it; that of the running all-in-one if none is given.
    #[arg(long, value_name = "LINK")]
    pub page: Option<String>,
}

/// `sniffer tail`.
#[derive(Args, Clone, Debug)]
pub struct TailFlags {
    /// Only calls that match, such as 'status>=500 and host==api.shop' (`sniffer help E130`).
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Go on with each call that comes.
    #[arg(short, long)]
    pub follow: bool,
    /// Calls before that.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    pub calls: u32,
    /// A JSON object a call.
    #[arg(long)]
    pub json: bool,
    /// The store.
    #[command(flatten)]
    pub store: StoreAddress,
}

/// `sniffer query`.
#[derive(Args, Clone, Debug)]
pub struct QueryFlags {
    /// SELECT ... FROM calls; the columns are the fields of docs/filter.md.
    #[arg(value_name = "SQL")]
    pub sql: String,
    /// Only calls that match are in the table.
    #[arg(long = "where", value_name = "FILTER")]
    pub filter: Option<String>,
    /// Only calls from this time on: a date, or how long ago, as -1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Only calls before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// SQL of the ClickHouse behind the store, over all of its calls, if the store may send it (docs/scale-out.md).
    #[arg(long, conflicts_with_all = ["filter", "from", "to"])]
    pub database: bool,
    /// The answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// The store.
    #[command(flatten)]
    pub store: StoreAddress,
}

/// `sniffer delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteFlags {
    /// The calls that match (`sniffer help E130`).
    #[arg(required = true, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Only calls from this time on: a date, or how long ago, as -1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Only calls before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Delete without a question.
    #[arg(long)]
    pub yes: bool,
    /// The store.
    #[command(flatten)]
    pub store: StoreAddress,
}

/// `sniffer read`.
#[derive(Args, Clone, Debug)]
pub struct ReadFlags {
    /// Files and folders, in any order; - is standard input.
    #[arg(required_unless_present = "from", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The same as FILE, as other readers of captures have it.
    #[arg(short = 'r', value_name = "FILE")]
    pub from: Vec<PathBuf>,
    /// End after this number of calls.
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub calls: Option<u64>,
    /// Only calls that match, such as 'status>=500 and host==api.shop' (`sniffer help E130`).
    #[arg(long = "where", value_name = "FILTER")]
    pub filter: Option<String>,
    /// Go on with what is added to the files, and with the files that follow them, until a signal comes.
    #[arg(long)]
    pub follow: bool,
    /// Form of the output: table or ndjson; default table on a terminal, ndjson elsewhere.
    #[arg(short, long, value_name = "FORM", hide_possible_values = true)]
    pub output: Option<Form>,
    /// The same as -o ndjson.
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// Exit with 8 when a call is half or truncated, or anything is unaccounted.
    #[arg(long)]
    pub strict: bool,
    /// Write where every packet, byte and call went, as in `status --json`, to a file; - is after the calls.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// The settings.
    #[command(flatten)]
    pub settings: Flags<READ>,
}

/// Form of what `read` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One JSON line a call, as it would be sent.
    Ndjson,
    /// A line a call, for people.
    Table,
}
