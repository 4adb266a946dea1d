//! The uploader alone, over io_uring and over epoll, beside a bare loop of `send`: the same bundles, to the same server, in the
//! same run.
//!
//! `cargo bench -p bench --bench uploader -- [MEGABYTES] [ROUNDS]`. The three alternate within each round, so other load on the
//! machine affects all of them; what counts is their ratio, of which the last lines have the median. In each a thread makes the bundles, as
//! a shard does, with as many waiting; another one sends them over two connections, the next one on a connection once the one
//! before was answered. The server reads and discards. `CPU` is that of the sending thread alone.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bench::lab::{schedstat_seconds, thread_cpu_seconds};
use engine_core::bundle::{Bundle, Encoding};
use engine_core::limits::BUNDLE_BYTES;
use engine_sys::driver::Choice;
use sniffer::capture_url::CaptureUrls;
use sniffer::config::Proxies;
use sniffer::diagnostic::{Colour, Console};
use sniffer::sink::http::Http;
use sniffer::sink::kind::Sink as _;
use sniffer::sink::outlet::Outlets;

/// Connections, as many as the uploader has.
const CONNECTIONS: usize = 2;

/// Bundles that wait to be sent, in each of the three: how much of the memory that is sent fits in the caches decides the rate, so
/// a shorter queue would be faster whatever sends.
const BACKLOG: usize = 16;

/// How long the thread that makes bundles sleeps when as many wait.
const FULL_PAUSE: Duration = Duration::from_micros(400);

/// Time in which one of the three must have delivered all bundles.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the uploader may send.
const DRIVERS: [(&str, Choice); 2] = [("io_uring", Choice::Uring), ("epoll", Choice::Epoll)];

/// What one of the three took.
#[derive(Clone, Copy, Debug)]
struct Took {
    seconds: f64,
    cpu_seconds: f64,
}

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let numbers: Vec<usize> = (std::env::args().skip(1))
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let megabytes = numbers.first().copied().unwrap_or(2000);
    let rounds = numbers.get(1).copied().unwrap_or(5).max(1);
    let count = (megabytes * 1_000_000 / BUNDLE_BYTES).max(CONNECTIONS);
    let gigabytes = (count * BUNDLE_BYTES) as f64 / 1e9;
    let server = serve()?;
    println!(
        "{:<10} {:>8} {:>12} {:>9} {:>9}",
        "", "GB/s", "CPU s per GB", "x send", "x CPU"
    );
    let mut ratios: [Vec<f64>; 2] = Default::default();
    for _ in 0..rounds {
        let bare = send(server, count)?;
        let show = |name: &str, took: Took| {
            println!(
                "{name:<10} {:>8.2} {:>12.3} {:>9.2} {:>9.2}",
                gigabytes / took.seconds,
                took.cpu_seconds / gigabytes,
                bare.seconds / took.seconds,
                took.cpu_seconds / bare.cpu_seconds,
            );
        };
        show("send", bare);
        for ((name, choice), ratios) in DRIVERS.iter().zip(&mut ratios) {
            let took = upload(server, count, *choice)?;
            show(name, took);
            ratios.push(bare.seconds / took.seconds);
        }
    }
    for ((name, _), ratios) in DRIVERS.iter().zip(&mut ratios) {
        ratios.sort_by(f64::total_cmp);
        println!("{name}: median {:.2} of send", ratios[rounds / 2]);
    }
    Ok(())
}

/// A server that discards what is posted to it, and answers 204.
fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || discard(stream));
        }
    });
    Ok(address)
}

fn discard(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(BUNDLE_BYTES, stream);
    loop {
        let mut left = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(length) = lower.strip_prefix("content-length: ") {
                left = length.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        while left > 0 {
            let read = stream.fill_buf()?.len().min(left);
            ensure!(read > 0, "a body ended early");
            stream.consume(read);
            left -= read;
        }
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}

/// The bundles, one after the other, made in memory that comes back.
fn makes(count: usize) -> (Receiver<Vec<u8>>, impl Fn(Vec<u8>)) {
    let (ready, bundles) = sync_channel(BACKLOG);
    let (back, empties) = sync_channel::<Vec<u8>>(2 * BACKLOG);
    thread::spawn(move || {
        let template = vec![b'x'; BUNDLE_BYTES];
        for _ in 0..count {
            let mut bundle = empties.try_recv().unwrap_or_default();
            bundle.clear();
            bundle.extend_from_slice(&template);
            while let Err(unsent) = ready.try_send(bundle) {
                let TrySendError::Full(back) = unsent else {
                    return;
                };
                bundle = back;
                thread::sleep(FULL_PAUSE);
            }
        }
    });
    (bundles, move |bundle| drop(back.try_send(bundle)))
}

/// The bare loop: head and body by `send`, then the next connection.
fn send(server: SocketAddr, count: usize) -> Result<Took> {
    let (bundles, give_back) = makes(count);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        connections.push(stream);
    }
    let head = format!(
        "POST /message HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BUNDLE_BYTES}\r\n\r\n"
    );
    let answered = |stream: &mut TcpStream| -> Result<()> {
        let mut answer = [0; 27];
        stream.read_exact(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 204"), "another answer");
        Ok(())
    };
    let (start, cpu) = (Instant::now(), thread_cpu_seconds());
    for (index, bundle) in bundles.iter().enumerate() {
        let stream = &mut connections[index % CONNECTIONS];
        if index >= CONNECTIONS {
            answered(stream)?;
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(&bundle)?;
        give_back(bundle);
    }
    connections.iter_mut().try_for_each(answered)?;
    Ok(Took {
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: thread_cpu_seconds() - cpu,
    })
}

/// The uploader, with everything that it does for a bundle.
fn upload(server: SocketAddr, count: usize, driver: Choice) -> Result<Took> {
    let urls = CaptureUrls::parse(&format!("http://{server}/message"))?;
    let http = Http::new("bench".to_owned(), urls, &Proxies::default());
    let sink = Box::new(http.bounded(4 * BACKLOG, usize::MAX).driven_by(driver));
    let started = sink.start(1, Console::new(Colour::Never, true))?;
    let outlets = started.outlets.into_iter().enumerate();
    let mut outlets = Outlets::new(outlets.collect());
    let monitor = started.running.monitor();
    let template = vec![b'x'; BUNDLE_BYTES];
    let cpu_file = uploader_thread()?;
    let (start, cpu) = (Instant::now(), schedstat_seconds(&cpu_file));
    let mut made = 0;
    loop {
        let sent = usize::try_from(monitor.snapshot().counters.bundles_sent)?;
        if sent == count {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "{:?}", monitor.snapshot());
        outlets.send();
        if made == count || made - sent >= BACKLOG + CONNECTIONS {
            thread::sleep(FULL_PAUSE);
            continue;
        }
        let mut bundle = outlets.take_empty().unwrap_or_default();
        bundle.body.clear();
        bundle.body.extend_from_slice(&template);
        made += 1;
        outlets.push(Bundle {
            encoding: Encoding::Plain,
            calls: 1,
            line_bytes: BUNDLE_BYTES as u64,
            id: made as u128,
            ..bundle
        });
    }
    let took = Took {
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: schedstat_seconds(&cpu_file) - cpu,
    };
    let mut running = started.running;
    running.begin_stop(Instant::now() + PATIENCE);
    running.wait();
    let counters = monitor.snapshot().counters;
    ensure!(counters.calls_sent == count as u64, "{counters:?}");
    Ok(took)
}

/// The file with the CPU time of the uploader's thread.
fn uploader_thread() -> Result<PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task")?.flatten();
    let mut tasks = tasks.map(|task| task.path());
    let is_ours = |task: &PathBuf| {
        let name = std::fs::read_to_string(task.join("comm"));
        name.is_ok_and(|name| name.trim() == "uploader")
    };
    let task = tasks.find(is_ours).context("no thread of an uploader")?;
    Ok(task.join("schedstat"))
}
