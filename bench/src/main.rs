//! `bench`: makes traffic, sends it, collects what a sniffer delivers of it, and measures.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bench::budget;
use bench::collect::{Behaviour, Collector};
use bench::encoders;
use bench::limit::{self, Touch};
use bench::load::{self, FIRST_NUMBER, Load};
use bench::matrix;
use bench::pacer::{Sent, send_paced};
use bench::packets;
use bench::reading;
use bench::report;
use bench::results::{Conditions, Results};
use bench::seed::Seed;
use bench::storage;
use bench::syncing;
use bench::traffic::{
    Accidents, Conversation, Frame, Shape, Vxlan, Wire, frames, read_pcap, write_pcap,
};
use bench::tx::{PacketSender, SenderKind};
use clap::{Args, Parser, Subcommand};
use engine_core::wire::vxlan;

#[derive(Parser)]
#[command(
    version,
    about = "Test harness of network-sniffer: seeded traffic, a sender, a collector, and measurements"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write seeded traffic to a capture file
    Make(Make),
    /// Send a capture file written by `make`, or steady calls, on an interface
    Send(Send),
    /// Accept bundles at http://ADDRESS/message, with commands on standard input
    Collect(Collect),
    /// Measure the bare ring: traffic into a packet ring whose reader only counts
    Limit(LimitOptions),
    /// Measure sniffer over a matrix of traffic and settings, and compare it with another program
    Run(Box<matrix::Options>),
    /// Compare encoders of bundles on the lines of steady traffic
    Encoders(encoders::Options),
    /// Compare policies for bringing the files of a spool to the disk
    Syncing(syncing::Options),
    /// Measure packets that carry no call: the cost of one, and whether any is lost
    Packets(packets::Options),
    /// Measure how `sniffer read`, httpry and tshark read a capture file
    Read(reading::Options),
    /// Measure the time of a packet and of a call in each stage of the engine
    Stages(budget::Options),
    /// Measure the database of the store: ingest, disk, lists, words, statistics
    Store(storage::Options),
    /// Make a page and plots from results
    Report {
        /// Folder of results
        #[arg(default_value = "bench/results/latest")]
        folder: PathBuf,
    },
}

/// Steady, numbered calls.
#[derive(Args)]
struct Steady {
    /// Makes steady calls, this many
    #[arg(long)]
    calls: Option<u64>,
    /// Rate of steady calls a second; 0 is as fast as possible
    #[arg(long, default_value_t = 1000.0)]
    call_rate: f64,
    /// Bytes of the response body of a steady call
    #[arg(long, default_value_t = 2000)]
    call_body: usize,
    /// Connections of steady calls that are open at a time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Steady calls on one connection
    #[arg(long, default_value_t = 100)]
    calls_per_connection: u64,
    /// Steady calls in VXLAN, VNI 123
    #[arg(long)]
    mirrored: bool,
    /// How steady calls are sent: http1; h2c, or grpc for its bodies; h2c-10 for ten streams at once, h2c-literal without a
    /// header table
    #[arg(long, default_value = "http1")]
    protocol: load::Protocol,
    /// Steady calls over IPv6
    #[arg(long)]
    calls_ipv6: bool,
}

impl Steady {
    fn shape(&self, port: u16, seed: u64) -> load::Shape {
        load::Shape {
            body_bytes: self.call_body,
            connections: self.connections,
            calls_per_connection: self.calls_per_connection,
            port,
            ipv6: self.calls_ipv6,
            wire: if self.mirrored {
                load::mirrored(123)
            } else {
                Wire::default()
            },
            seed,
            opaque: false,
            protocol: self.protocol,
        }
    }

    /// The rate in frames a second.
    fn frame_rate(&self, load: &Load) -> Option<f64> {
        (self.call_rate > 0.0).then_some(self.call_rate * load.frames_per_call_overall())
    }
}

#[derive(Args)]
struct LimitOptions {
    /// Encapsulations of the traffic: plain, vxlan
    #[arg(long, value_delimiter = ',', default_value = "plain,vxlan")]
    wire: Vec<String>,
    /// Response body sizes in bytes
    #[arg(long, value_delimiter = ',', default_value = "200,2000,20000")]
    body: Vec<usize>,
    /// Calls a second; 0 is as fast as possible
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Seconds of measured traffic
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Repetitions of each measurement
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// The part of each frame that the reader reads
    #[arg(long, value_delimiter = ',', default_value = "headers,all")]
    touch: Vec<Touch>,
    /// How frames are sent
    #[arg(long, default_value = "messages")]
    sender: SenderKind,
    /// Blocks of 1 MiB in the ring
    #[arg(long, default_value_t = 256)]
    blocks: usize,
    /// CPU of the sender
    #[arg(long, default_value_t = 0)]
    sender_cpu: usize,
    /// CPU of the reader
    #[arg(long, default_value_t = 1)]
    receiver_cpu: usize,
    /// Pin nothing to CPUs
    #[arg(long)]
    no_pin: bool,
    /// Folder of the results
    #[arg(long, default_value = "bench/results/latest")]
    results: PathBuf,
}

#[derive(Args)]
struct Make {
    /// Capture file to write
    #[arg(short, long)]
    output: PathBuf,
    /// With --calls steady calls are made instead of conversations of all kinds.
    #[command(flatten)]
    steady: Steady,
    /// File for the expected details, one line for each exchange
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections, each with exchanges of all kinds
    #[arg(long, default_value_t = 100)]
    conversations: usize,
    /// Most exchanges of one connection
    #[arg(long, default_value_t = 6)]
    exchanges: usize,
    /// Most bytes of a body
    #[arg(long, default_value_t = 40_000)]
    body: usize,
    /// Server port
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// IPv6 instead of IPv4
    #[arg(long)]
    ipv6: bool,
    /// Wait for each response before the next request
    #[arg(long)]
    no_pipelining: bool,
    /// Start sequence numbers just below 2^32, so that they wrap
    #[arg(long)]
    near_wrap: bool,
    /// VLAN identifier; may be given twice, outermost first
    #[arg(long)]
    vlan: Vec<u16>,
    /// Encapsulate frames in VXLAN with this VNI
    #[arg(long)]
    vxlan: Option<u32>,
    /// Outer IPv6 instead of IPv4 in VXLAN
    #[arg(long, requires = "vxlan")]
    vxlan_ipv6: bool,
    #[arg(long, default_value_t = vxlan::PORT, requires = "vxlan")]
    vxlan_port: u16,
    /// Encapsulate frames in GENEVE with this VNI, on port 6081, with an option
    #[arg(long, conflicts_with = "vxlan")]
    geneve: Option<u32>,
    /// Cut inner frames to this many bytes, as a mirror with a smaller MTU does
    #[arg(long)]
    mirror_cut: Option<usize>,
    /// Snap length: cut frames to this many bytes in the file
    #[arg(long, default_value_t = 262_144)]
    snap: usize,
    /// Lost segments of 1000
    #[arg(long, default_value_t = 0)]
    loss: u32,
    /// Reordered segments of 1000
    #[arg(long, default_value_t = 0)]
    reorder: u32,
    /// Duplicated segments of 1000
    #[arg(long, default_value_t = 0)]
    duplicate: u32,
    /// Segments of 1000 that are retransmitted with other boundaries
    #[arg(long, default_value_t = 0)]
    resegment: u32,
    /// Segments of 1000 that are captured after a later segment of the other side
    #[arg(long, default_value_t = 0)]
    skew: u32,
}

#[derive(Args)]
struct Send {
    /// Capture file; without it, steady calls are sent with --calls
    file: Option<PathBuf>,
    /// Interface to send on
    #[arg(short, long)]
    interface: String,
    /// Most frames of the file a second; 0 is as fast as possible
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How frames are sent; with live they arrive at the interface instead
    #[arg(long, default_value = "messages")]
    by: SenderKind,
    /// How often the file is sent
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Server port of steady calls
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Steady calls
    #[command(flatten)]
    steady: Steady,
}

#[derive(Args)]
struct Collect {
    /// Address and port to listen on
    #[arg(long, default_value = "127.0.0.1:7701")]
    listen: SocketAddr,
    /// File for the lines, one JSON array each, written at the end; without it lines are only counted
    #[arg(short, long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Make(options) if options.steady.calls.is_some() => make_steady(&options),
        Command::Make(options) => make(&options),
        Command::Send(options) => {
            println!("{}", serde_json::to_string(&send(&options)?)?);
            Ok(())
        }
        Command::Collect(options) => collect(&options),
        Command::Limit(options) => measure_limit(&options),
        Command::Run(options) => matrix::run(&options),
        Command::Encoders(options) => encoders::run(&options),
        Command::Packets(options) => packets::run(&options),
        Command::Syncing(options) => syncing::run(&options),
        Command::Read(options) => reading::run(&options),
        Command::Stages(options) => budget::run(&options),
        Command::Store(options) => storage::run(&options),
        Command::Report { folder } => {
            report::write(&folder)?;
            println!("{}", folder.join("report.md").display());
            Ok(())
        }
    }
}

fn send(options: &Send) -> Result<Sent> {
    let mut sender = PacketSender::open(&options.interface, options.by)
        .with_context(|| format!("cannot send on {} (CAP_NET_RAW?)", options.interface))?;
    let Some(path) = &options.file else {
        let calls = options
            .steady
            .calls
            .context("give a capture file, or --calls")?;
        let shape = options.steady.shape(options.port, 1);
        let mut load = Load::new(shape, FIRST_NUMBER, calls);
        let rate = options.steady.frame_rate(&load);
        return send_paced(&mut sender, rate, |out| load.next_frame(out));
    };
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let frames = read_pcap(&mut BufReader::new(file))?;
    let mut left = (0..options.times).flat_map(|_| &frames);
    let rate = (options.rate > 0.0).then_some(options.rate);
    send_paced(&mut sender, rate, |out| {
        left.next().is_some_and(|frame| {
            out.extend_from_slice(&frame.bytes);
            true
        })
    })
}

fn measure_limit(options: &LimitOptions) -> Result<()> {
    let mut results = Results::create(&options.results, "limit")?;
    eprintln!("rows go to {}", results.path().display());
    for repetition in 1..=options.repetitions {
        for wire in &options.wire {
            for &body_bytes in &options.body {
                for &touch in &options.touch {
                    let shape = load::Shape {
                        body_bytes,
                        wire: bench::cell::wire(wire)?,
                        ..load::Shape::default()
                    };
                    let method = limit::Method {
                        seconds: options.seconds,
                        rate: options.rate,
                        sender: options.sender,
                        sender_cpu: (!options.no_pin).then_some(options.sender_cpu),
                        receiver_cpu: (!options.no_pin).then_some(options.receiver_cpu),
                        ring_blocks: options.blocks,
                        touch,
                    };
                    let conditions = Conditions::now();
                    let row = limit::measure(&shape, wire, &method, repetition)?;
                    results.append(&conditions, &row)?;
                    eprintln!("{}", limit::line(&row));
                }
            }
        }
    }
    Ok(())
}

/// Writes numbered calls at an even rate, as `run` sends them.
fn make_steady(options: &Make) -> Result<()> {
    let calls = options.steady.calls.unwrap_or(0);
    let shape = options.steady.shape(options.port, options.seed);
    let mut load = Load::new(shape, FIRST_NUMBER, calls);
    let rate = options.steady.frame_rate(&load).unwrap_or(1e6);
    let file =
        File::create(&options.output).with_context(|| options.output.display().to_string())?;
    let mut file = BufWriter::new(file);
    let mut made = Vec::new();
    let mut bytes = Vec::new();
    while load.next_frame(&mut bytes) {
        made.push(Frame {
            time: load::EPOCH + (made.len() as f64 / rate * 1e9) as u64,
            bytes: std::mem::take(&mut bytes),
        });
    }
    write_pcap(&mut file, &made, options.snap)?;
    println!("{calls} exchanges, {} frames", made.len());
    Ok(())
}

fn make(options: &Make) -> Result<()> {
    let mut seed = Seed::new(options.seed);
    let shape = Shape {
        exchanges_max: options.exchanges.max(1),
        body_bytes_max: options.body,
        ipv6: options.ipv6,
        pipelining: !options.no_pipelining,
        near_wrap: options.near_wrap,
        port: options.port,
    };
    let wire = Wire {
        vlans: options.vlan.clone(),
        mirror_cut: options.mirror_cut,
        vxlan: match (options.vxlan, options.geneve) {
            (Some(vni), _) => Some(tunnel(vni, options)),
            (None, vni) => vni.map(Vxlan::geneve),
        },
    };
    let accidents = Accidents {
        lose_per_mille: options.loss,
        reorder_per_mille: options.reorder,
        duplicate_per_mille: options.duplicate,
        resegment_per_mille: options.resegment,
        skew_per_mille: options.skew,
    };
    let conversations: Vec<_> = (0..options.conversations)
        .map(|_| (Conversation::seeded(&mut seed, &shape), wire.clone()))
        .collect();
    let frames = frames(&conversations, &accidents, &mut seed);
    let file =
        File::create(&options.output).with_context(|| options.output.display().to_string())?;
    write_pcap(&mut BufWriter::new(file), &frames, options.snap)?;
    let exchanges = conversations
        .iter()
        .flat_map(|(conversation, _)| &conversation.exchanges);
    if let Some(path) = &options.truth {
        let mut file =
            BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
        for exchange in exchanges.clone() {
            serde_json::to_writer(&mut file, &exchange.details())?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
    }
    println!(
        "{} exchanges in {} conversations, {} frames",
        exchanges.count(),
        conversations.len(),
        frames.len()
    );
    Ok(())
}

fn tunnel(vni: u32, options: &Make) -> Vxlan {
    let tunnel = Vxlan {
        port: options.vxlan_port,
        ..Vxlan::new(vni)
    };
    if !options.vxlan_ipv6 {
        return tunnel;
    }
    let host = |number| Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, number).into();
    Vxlan {
        from: host(1),
        to: host(2),
        ..tunnel
    }
}

fn collect(options: &Collect) -> Result<()> {
    let listener = TcpListener::bind(options.listen)
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let collector = if options.output.is_some() {
        Collector::serve(listener)?
    } else {
        Collector::count_only(listener)?
    };
    println!(
        "listening on {}; commands: accept, stall, reset, lie, a status such as 503, counts, end",
        collector.url()
    );
    for command in io::stdin().lock().lines() {
        match command?.trim() {
            "end" => break,
            "counts" => println!("{}", serde_json::to_string(&collector.counts())?),
            word => match Behaviour::parse(word) {
                Ok(behaviour) => collector.set_behaviour(behaviour),
                Err(error) => eprintln!("{word}: {error:#}"),
            },
        }
    }
    if let Some(path) = &options.output {
        let mut file =
            BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
        for row in collector.rows() {
            serde_json::to_writer(&mut file, &row)?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
    }
    println!("{}", serde_json::to_string(&collector.counts())?);
    let errors = collector.errors();
    if !errors.is_empty() {
        bail!("{} broken bundles, the first: {}", errors.len(), errors[0]);
    }
    Ok(())
}
