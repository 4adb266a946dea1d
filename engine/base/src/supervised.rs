//! A child and its supervisor, at the child's standard input. When that ends, or the supervisor dies, the child ends as on SIGTERM,
//! which delivers or commits what it holds.
//!
//! The standard input is one end of a pair of Unix sockets. Over it a capture passes connections that it makes to the supervisor,
//! which passes them on to the store. So a capture delivers without a listener that anybody else could reach and fill, and
//! needs no right to connect to anything.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::time::Duration;

use crate::descriptors;

/// How long the store outlives a supervisor that was killed: capture needs it to deliver.
const STORE_GRACE: Duration = Duration::from_secs(3);

/// Ends this process, a capture, as soon as its supervisor ends. The handler of SIGTERM must be installed before.
pub fn end_with_supervisor() {
    // Refused only by kernels without PR_SET_PDEATHSIG; the end of the input does the same job then.
    let _ = engine_sys::process::die_with_parent(libc::SIGTERM);
    watch(Duration::ZERO, read_to_end);
}

/// Ends this process, a store, on request of its supervisor, and some time after a supervisor that was killed. Until then
/// `accept` gets each connection that a capture has passed.
pub fn end_after_supervisor(accept: impl Fn(UnixStream) + Send + 'static) {
    watch(STORE_GRACE, move || receive_to_end(accept));
}

/// Makes a connection to the store that has the same supervisor: a pair of sockets, of which the supervisor gets one. If there is
/// no store, the other end is closed.
///
/// # Errors
///
/// There is no supervisor at the other end of standard input, or it does not take any more.
pub fn connect_to_store() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    descriptors::send(io::stdin().as_fd(), theirs.as_fd())?;
    Ok(ours)
}

/// Ends this process some time after `until_end` has returned.
fn watch(grace: Duration, until_end: impl FnOnce() + Send + 'static) {
    let supervisor = parent_id();
    let watch = move || {
        until_end();
        if parent_id() != supervisor {
            std::thread::sleep(grace);
        }
        let _ = signal_hook::low_level::raise(libc::SIGTERM);
    };
    let _ = std::thread::Builder::new()
        .name("supervisor-watch".into())
        .spawn(watch);
}

/// Returns when standard input has ended; until then each connection that comes over it is accepted.
fn receive_to_end(accept: impl Fn(UnixStream)) {
    loop {
        match descriptors::receive(io::stdin().as_fd()) {
            Ok(Some(connection)) => accept(UnixStream::from(connection)),
            Ok(None) => return,
            // The pipe of another supervisor.
            Err(_) => return read_to_end(),
        }
    }
}

/// Returns when standard input has ended.
fn read_to_end() {
    let mut nothing = [0; 64];
    while io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
}
