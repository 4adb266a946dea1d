//! `bench`: makes traffic, sends it, collects what a sniffer reports of it, and measures.

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
use bench::traffic::{
    Accidents, Conversation, Frame, Shape, Vxlan, Wire, frames, read_pcap, write_pcap,
};
use bench::tx::{PacketSender, SenderKind};
use clap::{Args, Parser, Subcommand};
use engine_core::wire::vxlan;

#[derive(Parser)]
#[command(
    version,
    about = "The harness: seeded traffic, a sender, a collector, and measurements"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes seeded traffic to a capture file
    Make(Make),
    /// Sends a capture file that `make` wrote, or steady calls, onto an interface
    Send(Send),
    /// Takes bundles at http://ADDRESS/message; commands come on standard input
    Collect(Collect),
    /// What this machine can carry: the same traffic into a ring whose reader only counts
    Limit(LimitOptions),
    /// Measures a matrix of traffic and settings, and compares with another program
    Run(Box<matrix::Options>),
    /// Compares encoders of bundles on the lines of steady traffic
    Encoders(encoders::Options),
    /// Packets that carry no call: what one costs, and whether any is lost
    Packets(packets::Options),
    /// Capture files, read by `sniffer read`, httpry and tshark
    Read(reading::Options),
    /// What a packet and a call cost behind each stage of the engine, by time
    Stages(budget::Options),
    /// Makes a page and plots from the results
    Report {
        /// Folder of the results
        #[arg(default_value = "bench/results/latest")]
        folder: PathBuf,
    },
}

/// Steady, numbered calls.
#[derive(Args)]
struct Steady {
    /// Calls to make
    #[arg(long)]
    calls: Option<u64>,
    /// Calls a second; 0 is as fast as it goes
    #[arg(long, default_value_t = 1000.0)]
    call_rate: f64,
    /// Bytes of a response body
    #[arg(long, default_value_t = 2000)]
    call_body: usize,
    /// Connections at a time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Calls on one connection
    #[arg(long, default_value_t = 100)]
    calls_per_connection: u64,
    /// In VXLAN, VNI 123
    #[arg(long)]
    mirrored: bool,
    /// IPv6 inside
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
        }
    }

    /// Frames a second for the rate in calls.
    fn frame_rate(&self, load: &Load) -> Option<f64> {
        (self.call_rate > 0.0).then_some(self.call_rate * load.frames_per_call_overall())
    }
}

#[derive(Args)]
struct LimitOptions {
    /// Wires: plain, vxlan
    #[arg(long, value_delimiter = ',', default_value = "plain,vxlan")]
    wire: Vec<String>,
    /// Bytes of response bodies
    #[arg(long, value_delimiter = ',', default_value = "200,2000,20000")]
    body: Vec<usize>,
    /// Calls a second; 0 is as fast as the sender can
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// What the reader reads of each frame
    #[arg(long, value_delimiter = ',', default_value = "headers,all")]
    touch: Vec<Touch>,
    /// How frames get onto the wire
    #[arg(long, default_value = "messages")]
    sender: SenderKind,
    /// Blocks of 1 MiB in the ring
    #[arg(long, default_value_t = 256)]
    blocks: usize,
    #[arg(long, default_value_t = 0)]
    sender_cpu: usize,
    #[arg(long, default_value_t = 1)]
    receiver_cpu: usize,
    /// No pinning at all
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
    /// Steady calls instead of conversations of every kind: with --calls
    #[command(flatten)]
    steady: Steady,
    /// Also writes one line per exchange with the details that a right reading reports
    #[arg(long)]
    truth: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 100)]
    conversations: usize,
    /// Exchanges of one conversation at most
    #[arg(long, default_value_t = 6)]
    exchanges: usize,
    /// Bytes of a body at most
    #[arg(long, default_value_t = 40_000)]
    body: usize,
    /// Server port
    #[arg(long, default_value_t = 80)]
    port: u16,
    #[arg(long)]
    ipv6: bool,
    #[arg(long)]
    no_pipelining: bool,
    /// Sequence numbers wrap soon after the start
    #[arg(long)]
    near_wrap: bool,
    /// VLAN identifier, outermost first; may be given twice
    #[arg(long)]
    vlan: Vec<u16>,
    /// Wraps frames in VXLAN with this VNI
    #[arg(long)]
    vxlan: Option<u32>,
    /// Outer IPv6 instead of IPv4
    #[arg(long, requires = "vxlan")]
    vxlan_ipv6: bool,
    #[arg(long, default_value_t = vxlan::PORT, requires = "vxlan")]
    vxlan_port: u16,
    /// Wraps frames in GENEVE with this VNI, on port 6081, with an option
    #[arg(long, conflicts_with = "vxlan")]
    geneve: Option<u32>,
    /// Inner frames are cut to so many bytes, as a mirror with a smaller MTU does
    #[arg(long)]
    mirror_cut: Option<usize>,
    /// Frames are cut to so many bytes in the file, as a capture with that snap length does
    #[arg(long, default_value_t = 262_144)]
    snap: usize,
    /// Of 1000 segments
    #[arg(long, default_value_t = 0)]
    loss: u32,
    /// Of 1000 segments
    #[arg(long, default_value_t = 0)]
    reorder: u32,
    /// Of 1000 segments
    #[arg(long, default_value_t = 0)]
    duplicate: u32,
    /// Of 1000 segments: sent again with other boundaries
    #[arg(long, default_value_t = 0)]
    resegment: u32,
    /// Of 1000 segments: seen after what the other side sent later
    #[arg(long, default_value_t = 0)]
    skew: u32,
}

#[derive(Args)]
struct Send {
    /// Capture file; without one steady calls are sent: with --calls
    file: Option<PathBuf>,
    /// Interface that the frames go out on
    #[arg(short, long)]
    interface: String,
    /// Frames of the file a second at most; 0 is as fast as it goes
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How frames get onto the wire; with `live` they come in at the interface instead
    #[arg(long, default_value = "messages")]
    by: SenderKind,
    /// Times that the file is sent
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
    #[arg(long, default_value = "127.0.0.1:7701")]
    listen: SocketAddr,
    /// Lines are written here at the end, one JSON array each; else they are only counted
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
        Command::Read(options) => reading::run(&options),
        Command::Stages(options) => budget::run(&options),
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
        let calls = options.steady.calls.context("a file, or --calls")?;
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

/// Numbered calls at an even pace, as `run` sends them.
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
        "listening on {}; type accept, stall, reset, lie, a status such as 503, counts, or end",
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
