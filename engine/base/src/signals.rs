//! Signals as events, from a thread that waits for them, or as a flag.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Sends an event for each signal that ends, reloads or requests the status, until there is no receiver.
pub fn watch<E: Send + 'static>(
    events: Sender<E>,
    event: impl Fn(i32) -> E + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let watch = move || {
        for signal in signals.forever() {
            if events.send(event(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)?;
    Ok(())
}

/// SIGTERM, SIGINT and SIGHUP do nothing from now on.
pub fn ignore() -> io::Result<()> {
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// A flag that the first SIGINT or SIGTERM sets; the second one ends the process.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
