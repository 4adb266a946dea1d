//! Packets that are kept for a file (`--keep-packets`): frames in, as they came from the ring, and a capture file out of the last of
//! them.
//!
//! Each shard keeps its frames in chunks of memory, one behind the other, and gives up the oldest chunk for the next; so a frame costs
//! a copy, and nothing is allocated once the chunks are there. Other threads reach a chunk when it is full, or on request, so that a
//! lock is taken once a chunk. Without the setting there is no [`Keeper`], and nothing is kept.
//!
//! Rules do not apply to packets: that is why nobody gets any without `--unmasked`. What the settings leave out of the capture (ports,
//! networks, the traffic of the sniffer itself) is in no file either.

mod file;
mod record;
mod search;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use engine_core::decap::Frame;
use engine_core::pipeline;
use engine_core::time::Timestamp;

use crate::control::WantedPackets;
use crate::limits::{KEPT_CHUNK_BYTES_MAX, KEPT_CHUNK_BYTES_MIN, KEPT_PACKETS_WAIT};
use record::{Chunk, Header};
use search::Search;

/// Chunks of a shard, at least: one is filled while the others are complete.
const CHUNKS_MIN: usize = 4;

/// The packets that all shards keep.
pub struct KeptPackets {
    shards: Vec<Arc<Shared>>,
    bytes_max: usize,
    /// What of them may be in a file; one is made at a time.
    search: Mutex<Search>,
}

/// Why there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPackets {
    /// The time of the oldest packet that is kept, in milliseconds since 1970; none if there are none at all.
    pub kept_from_millis: Option<u64>,
}

impl KeptPackets {
    /// Room for `bytes` of packets in equal parts, and what fills the part of each shard.
    pub fn new(
        bytes: usize,
        shards: usize,
        config: &pipeline::Config,
    ) -> (Self, impl Iterator<Item = Keeper> + use<>) {
        let part = bytes / shards.max(1);
        let shards: Vec<Arc<Shared>> = (0..shards).map(|_| Arc::default()).collect();
        let kept = Self {
            shards: shards.clone(),
            bytes_max: bytes,
            search: Mutex::new(Search::new(config)),
        };
        let keepers = shards
            .into_iter()
            .map(move |shared| Keeper::new(part, shared));
        (kept, keepers)
    }

    /// Bytes of memory for them.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// A capture file (pcapng) of the packets that are wanted, in the order of their times. `dropped` frames were lost at the rings
    /// since the start, which the file states.
    ///
    /// # Errors
    ///
    /// None of them is kept.
    pub fn file(&self, wanted: &WantedPackets, dropped: u64) -> Result<Vec<u8>, NoPackets> {
        let search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        let chunks: Vec<Chunk> = self
            .shards
            .iter()
            .flat_map(|shard| shard.chunks())
            .collect();
        let found = search.find(&chunks, wanted);
        if found.records.is_empty() {
            return Err(NoPackets {
                kept_from_millis: found.kept_from.map(Timestamp::millis),
            });
        }
        Ok(file::write(&chunks, &found, wanted, dropped))
    }
}

/// The part of a shard, as other threads see it.
#[derive(Default)]
struct Shared {
    chunks: Mutex<Chunks>,
    answered: Condvar,
    /// A thread waits for what the shard has since its last chunk.
    is_wanted: AtomicBool,
}

#[derive(Default)]
struct Chunks {
    /// Complete ones, the oldest first.
    complete: VecDeque<Chunk>,
    /// Bytes of memory of these.
    bytes: usize,
    /// A copy of the one that is being filled, made on request.
    begun: Option<Chunk>,
    /// Requests that were answered.
    answers: u64,
}

impl Shared {
    fn chunks_locked(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All chunks, the newest last. A shard that does not answer in time has ended, or is too busy: its last frames are missing.
    fn chunks(&self) -> Vec<Chunk> {
        let chunks = self.chunks_locked();
        let before = chunks.answers;
        self.is_wanted.store(true, Ordering::Release);
        let has_none = |chunks: &mut Chunks| chunks.answers == before;
        let waited = self
            .answered
            .wait_timeout_while(chunks, KEPT_PACKETS_WAIT, has_none);
        let (mut chunks, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let begun = chunks.begun.take();
        chunks.complete.iter().cloned().chain(begun).collect()
    }
}

/// What keeps the frames of one shard.
pub struct Keeper {
    /// The chunk that is being filled.
    begun: Vec<u8>,
    chunk_bytes: usize,
    bytes_max: usize,
    shared: Arc<Shared>,
}

impl Keeper {
    fn new(bytes_max: usize, shared: Arc<Shared>) -> Self {
        let chunk_bytes =
            (bytes_max / CHUNKS_MIN).clamp(KEPT_CHUNK_BYTES_MIN, KEPT_CHUNK_BYTES_MAX);
        Self {
            begun: Vec::with_capacity(chunk_bytes),
            chunk_bytes,
            bytes_max,
            shared,
        }
    }

    /// Keeps a frame.
    #[inline]
    pub fn keep(&mut self, frame: &Frame<'_>) {
        let header = Header::of(frame).to_bytes();
        if self.begun.len() + header.len() + frame.bytes.len() > self.chunk_bytes {
            self.complete();
        }
        self.begun.extend_from_slice(&header);
        self.begun.extend_from_slice(frame.bytes);
    }

    /// Begins the next chunk, in the memory of the oldest one where there is no room for another.
    #[cold]
    fn complete(&mut self) {
        if self.begun.is_empty() {
            return;
        }
        let mut chunks = self.shared.chunks_locked();
        // It is in the complete one from now on.
        chunks.begun = None;
        let mut spare = None;
        while chunks.bytes + self.begun.capacity() + self.chunk_bytes > self.bytes_max
            && let Some(oldest) = chunks.complete.pop_front()
        {
            chunks.bytes -= oldest.capacity();
            // One that is being written to a file is freed by the thread that does so.
            spare = Arc::try_unwrap(oldest).ok();
        }
        // A frame that is longer than a chunk has made one larger.
        let spare = spare.filter(|chunk| chunk.capacity() == self.chunk_bytes);
        let mut next = spare.unwrap_or_else(|| Vec::with_capacity(self.chunk_bytes));
        next.clear();
        let complete = std::mem::replace(&mut self.begun, next);
        chunks.bytes += complete.capacity();
        chunks.complete.push_back(Arc::new(complete));
    }

    /// Answers a thread that waits for the last frames. To be called once in each round.
    pub fn answer(&self) {
        if !self.shared.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        self.shared.is_wanted.store(false, Ordering::Release);
        let mut chunks = self.shared.chunks_locked();
        chunks.begun = (!self.begun.is_empty()).then(|| Arc::new(self.begun.clone()));
        chunks.answers += 1;
        self.shared.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use engine_core::decap::{self, LinkType};

    use super::*;
    use crate::capture_file::CaptureFile;
    use crate::control::WantedConnection;

    /// An IPv4 packet of a connection, as `client` sends it or gets it.
    fn packet(client: u16, is_sent: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
        let length = (40 + payload.len()) as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        let ends = [([10, 0, 0, 1], client), ([10, 0, 0, 2], 80)];
        let [from, to] = if is_sent { ends } else { [ends[1], ends[0]] };
        packet.extend(from.0.iter().chain(&to.0));
        packet.extend([from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
        packet.extend([0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x10, 0, 9, 0, 0, 0, 0]);
        packet.extend(payload);
        packet
    }

    fn ethernet(packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0]);
        frame.extend(packet);
        frame
    }

    fn frame(bytes: &[u8], millis: u64) -> Frame<'_> {
        Frame {
            time: Timestamp::from_nanos(millis * 1_000_000 + 7),
            link: LinkType::RawIp,
            bytes,
            wire_len: bytes.len() as u32 + 3,
            vlan: None,
        }
    }

    fn wanted(from_millis: u64, until_millis: u64, client: Option<u16>) -> WantedPackets {
        WantedPackets {
            from_millis,
            until_millis,
            connection: client.map(|port| WantedConnection {
                client: SocketAddr::from(([10, 0, 0, 1], port)),
                server: SocketAddr::from(([10, 0, 0, 2], 80)),
                vni: None,
            }),
        }
    }

    /// A file of what is kept, made while another thread answers as a shard does.
    fn file(
        kept: &KeptPackets,
        keepers: &[Keeper],
        wanted: WantedPackets,
    ) -> Result<Vec<u8>, NoPackets> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    keepers.iter().for_each(Keeper::answer);
                    std::thread::yield_now();
                }
            });
            let file = kept.file(&wanted, 5);
            is_over.store(true, Ordering::Release);
            file
        })
    }

    /// Times in milliseconds, lengths on the wire, and bytes of the frames of a file.
    fn read(file: Vec<u8>) -> Vec<(u64, u32, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pcapng");
        std::fs::write(&path, file).unwrap();
        let mut file = CaptureFile::open(&path.display().to_string()).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = file.next().unwrap() {
            assert_eq!(frame.time.nanos() % 1_000_000, 7);
            frames.push((frame.time.millis(), frame.wire_len, frame.bytes.to_vec()));
        }
        frames
    }

    #[test]
    fn a_file_has_the_packets_of_a_connection_in_the_order_of_their_times() {
        let (kept, keepers) = KeptPackets::new(1 << 20, 2, &pipeline::Config::default());
        let mut keepers: Vec<Keeper> = keepers.collect();
        let (ours, answer, others) = (
            packet(4000, true, b"GET /"),
            packet(4000, false, b"HTTP/1.1 200"),
            packet(4001, true, b"POST"),
        );
        keepers[1].keep(&frame(&answer, 30));
        keepers[0].keep(&frame(&ours, 10));
        keepers[0].keep(&frame(&others, 20));
        keepers[0].keep(&frame(&ours, 90));
        let of_call = file(&kept, &keepers, wanted(5, 50, Some(4000))).unwrap();
        let text = String::from_utf8_lossy(&of_call).into_owned();
        assert!(text.contains("10.0.0.1:4000 and 10.0.0.2:80"), "{text}");
        assert!(text.contains("5 packets dropped"), "{text}");
        let length = ours.len() as u32 + 3;
        assert_eq!(
            read(of_call),
            [
                (10, length, ours.clone()),
                (30, answer.len() as u32 + 3, answer)
            ]
        );
        let last = read(file(&kept, &keepers, wanted(20, 100, None)).unwrap());
        let times: Vec<u64> = last.iter().map(|(time, ..)| *time).collect();
        assert_eq!(times, [20, 30, 90]);
        let none = file(&kept, &keepers, wanted(200, 300, None)).unwrap_err();
        assert_eq!(none.kept_from_millis, Some(10));
    }

    #[test]
    fn memory_stays_within_the_bound_and_the_oldest_packets_go() {
        let bytes = 64 << 10;
        let (kept, keepers) = KeptPackets::new(bytes, 1, &pipeline::Config::default());
        let mut keepers: Vec<Keeper> = keepers.collect();
        let short = packet(4000, true, &[b'x'; 960]);
        for millis in 1..=500 {
            keepers[0].keep(&frame(&short, millis));
            let chunks = keepers[0].shared.chunks_locked();
            assert!(chunks.bytes + keepers[0].begun.capacity() <= bytes);
        }
        let frames = read(file(&kept, &keepers, wanted(0, 1000, None)).unwrap());
        let times: Vec<u64> = frames.iter().map(|(time, ..)| *time).collect();
        let first = times[0];
        assert!(first > 430 && first < 460, "{first}");
        assert!(times.into_iter().eq(first..=500));
        // One that is longer than a chunk is kept alone.
        let long = packet(4000, true, &[b'y'; 40_000]);
        keepers[0].keep(&frame(&long, 600));
        keepers[0].keep(&frame(&short, 601));
        let frames = read(file(&kept, &keepers, wanted(600, 1000, None)).unwrap());
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn what_the_settings_leave_out_is_in_no_file() {
        let own = SocketAddr::from(([10, 0, 0, 1], 4001));
        let mut config = pipeline::Config {
            decap: decap::Config {
                self_traffic: decap::SelfTraffic::new([own]),
                ..decap::Config::default()
            },
            ..pipeline::Config::default()
        };
        config.http.ports = engine_core::http::PortSet::parse("80,443").unwrap();
        let (kept, keepers) = KeptPackets::new(1 << 20, 1, &config);
        let mut keepers: Vec<Keeper> = keepers.collect();
        let (ours, of_sniffer) = (packet(4000, true, b"GET /"), packet(4001, true, b"token"));
        let mut of_other_port = ours.clone();
        // Both ports: 40000 to 5432.
        of_other_port[20..24].copy_from_slice(&[0x9c, 0x40, 0x15, 0x38]);
        let mut no_tcp = ours.clone();
        no_tcp[9] = 1;
        for (bytes, millis) in [
            (&ours, 10),
            (&of_sniffer, 11),
            (&of_other_port, 12),
            (&no_tcp, 13),
        ] {
            keepers[0].keep(&frame(bytes, millis));
        }
        let frames = read(file(&kept, &keepers, wanted(0, 100, None)).unwrap());
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].2, ours);
    }

    #[test]
    fn a_tag_that_the_kernel_removed_is_in_the_file_again() {
        let (kept, keepers) = KeptPackets::new(1 << 20, 1, &pipeline::Config::default());
        let mut keepers: Vec<Keeper> = keepers.collect();
        let bytes = ethernet(&packet(4000, true, b"GET /"));
        let tagged = Frame {
            link: LinkType::Ethernet,
            vlan: Some(0x2007),
            ..frame(&bytes, 10)
        };
        keepers[0].keep(&tagged);
        keepers[0].keep(&frame(&bytes[14..], 11));
        let frames = read(file(&kept, &keepers, wanted(0, 100, None)).unwrap());
        let mut expected = bytes.clone();
        expected.splice(12..12, [0x81, 0, 0x20, 7]);
        assert_eq!(frames[0].2, expected);
        assert_eq!(frames[0].1, bytes.len() as u32 + 3 + 4);
        assert_eq!(frames[1].2, &bytes[14..]);
    }

    #[test]
    fn a_shard_that_does_not_answer_costs_its_last_frames_alone() {
        let (kept, keepers) = KeptPackets::new(64 << 10, 1, &pipeline::Config::default());
        let mut keepers: Vec<Keeper> = keepers.collect();
        let packet = packet(4000, true, &[b'x'; 960]);
        for millis in 1..=40 {
            keepers[0].keep(&frame(&packet, millis));
        }
        let frames = read(kept.file(&wanted(0, 100, None), 0).unwrap());
        assert!(frames.len() < 40 && !frames.is_empty(), "{}", frames.len());
    }
}
