//! The packets of files on their way through a pipeline, in the order of time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine_core::pipeline::FilePipeline;
use engine_core::time::Timestamp;

use crate::clock;
use crate::counters::ShardCounters;
use crate::printer::Printer;
use crate::timeline::{Next, Timeline};

/// Packet time between two checks for idle flows.
const TICK: Duration = Duration::from_millis(100);

/// Packets whose time is nearer to the present than this are those of a running capture: then time passes without packets.
const LIVE: Duration = Duration::from_secs(10);

/// How far time passes without packets: waits for bytes that may still come are over by then.
const LIVE_AHEAD: Duration = Duration::from_millis(200);

/// Passes the packets of a timeline to a pipeline.
pub struct Reader<'a> {
    /// From packets to lines.
    pub pipeline: FilePipeline<'a>,
    /// The output of the pipeline.
    pub printer: Rc<RefCell<Printer<'a>>>,
    /// The time of the latest packet.
    pub now: Timestamp,
    next_tick: Timestamp,
    /// What was read.
    pub packets: ShardCounters,
}

impl<'a> Reader<'a> {
    /// A reader whose pipeline prints with `printer`.
    pub fn new(pipeline: FilePipeline<'a>, printer: Rc<RefCell<Printer<'a>>>) -> Self {
        Self {
            pipeline,
            printer,
            now: Timestamp::ZERO,
            next_tick: Timestamp::ZERO,
            packets: ShardCounters::default(),
        }
    }

    /// Reads until the timeline ends or enough was printed.
    pub fn read(&mut self, timeline: &mut Timeline) {
        let mut quiet_since = None;
        while !self.printer.borrow().has_enough() {
            match timeline.next_packet() {
                Next::Packet(frame) => {
                    quiet_since = None;
                    let time = frame.time;
                    self.printer.borrow_mut().starts_at(time);
                    self.packets.frames_read += 1;
                    self.packets.frames_read_bytes += frame.bytes.len() as u64;
                    self.pipeline.feed(&frame);
                    self.now = self.now.max(time);
                    if self.now >= self.next_tick {
                        self.pipeline.tick(self.now);
                        self.printer.borrow_mut().flush_old();
                        self.next_tick = self.now.after(TICK);
                    }
                }
                Next::Nothing => {
                    let since = *quiet_since.get_or_insert_with(Instant::now);
                    self.pass_time(since.elapsed());
                    self.printer.borrow_mut().flush();
                    timeline.wait();
                }
                Next::End => return,
            }
        }
    }

    /// Lets time pass while a running capture has no packets, so that what waits for bytes that may still come does not
    /// wait for the next packet.
    fn pass_time(&mut self, quiet: Duration) {
        let now = clock::now();
        if now.since(self.now).max(self.now.since(now)) < LIVE {
            self.pipeline.tick(self.now.after(quiet.min(LIVE_AHEAD)));
        }
    }
}
