//! What a supervisor has to know of a capture before that is killed: its calls in flight, printed whenever their number has
//! changed. The final status has them only of a capture that ends in order.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use super::reporter::Reporter;
use crate::limits;
use crate::status::InFlight;
use crate::stdout::print_json;

/// The thread that prints them.
pub struct Publication {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Publication {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start(reporter: Arc<Reporter>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("in-flight".to_owned())
            .spawn(move || {
                let mut last = 0;
                let every = limits::IN_FLIGHT_EVERY;
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    let in_flight = reporter.in_flight();
                    if in_flight != last {
                        print_json(&InFlight { in_flight });
                        last = in_flight;
                    }
                }
            })?;
        Ok(Self { stop, thread })
    }

    /// Ends it, so that what is printed afterwards is the last line.
    pub fn end(self) {
        drop(self.stop);
        // A panic there was reported by its own thread.
        let _ = self.thread.join();
    }
}
