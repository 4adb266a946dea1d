//! `bench`: makes traffic, sends it, and collects what a sniffer reports of it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bench::collect::{Behaviour, Collector};
use bench::seed::Seed;
use bench::send::send;
use bench::traffic::{Accidents, Conversation, Shape, Vxlan, Wire, frames, read_pcap, write_pcap};
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    version,
    about = "The harness: seeded traffic, a sender and a collector"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes seeded traffic to a capture file
    Make(Make),
    /// Sends a capture file that `make` wrote onto an interface
    Send(Send),
    /// Takes bundles at http://ADDRESS/message; commands come on standard input
    Collect(Collect),
}

#[derive(Args)]
struct Make {
    /// Capture file to write
    #[arg(short, long)]
    output: PathBuf,
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
    #[arg(long, default_value_t = 4789, requires = "vxlan")]
    vxlan_port: u16,
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
    /// Capture file
    file: PathBuf,
    /// Interface that the frames go out on
    #[arg(short, long)]
    interface: String,
    /// Frames a second at most
    #[arg(long, default_value_t = 1000)]
    rate: u32,
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
        Command::Make(options) => make(&options),
        Command::Send(options) => {
            let file =
                File::open(&options.file).with_context(|| options.file.display().to_string())?;
            let frames = read_pcap(&mut BufReader::new(file))?;
            let sent = send(&options.interface, &frames, options.rate)?;
            println!("{sent} frames sent");
            Ok(())
        }
        Command::Collect(options) => collect(&options),
    }
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
        vxlan: options.vxlan.map(|vni| tunnel(vni, options)),
    };
    let accidents = Accidents {
        lose_per_mille: options.loss,
        reorder_per_mille: options.reorder,
        duplicate_per_mille: options.duplicate,
        resegment_per_mille: options.resegment,
        skew_per_mille: options.skew,
    };
    let talks: Vec<_> = (0..options.conversations)
        .map(|_| (Conversation::seeded(&mut seed, &shape), wire.clone()))
        .collect();
    let frames = frames(&talks, &accidents, &mut seed);
    let file =
        File::create(&options.output).with_context(|| options.output.display().to_string())?;
    write_pcap(&mut BufWriter::new(file), &frames, options.snap)?;
    let exchanges = talks.iter().flat_map(|(talk, _)| &talk.exchanges);
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
        talks.len(),
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
        "listening on {}; type accept, stall, reset, lie, a status such as 503, tally, or end",
        collector.url()
    );
    for command in io::stdin().lock().lines() {
        match command?.trim() {
            "end" => break,
            "tally" => println!("{}", serde_json::to_string(&collector.tally())?),
            word => match Behaviour::parse(word) {
                Ok(behaviour) => collector.behave(behaviour),
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
    println!("{}", serde_json::to_string(&collector.tally())?);
    let complaints = collector.complaints();
    if !complaints.is_empty() {
        bail!(
            "{} broken bundles, the first: {}",
            complaints.len(),
            complaints[0]
        );
    }
    Ok(())
}
