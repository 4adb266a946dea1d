//! The end of a child with its supervisor: when its standard input ends, or the supervisor dies, the child ends as on
//! SIGTERM, which delivers or commits what it holds.

use std::io::Read;
use std::os::unix::process::parent_id;
use std::time::Duration;

/// How long the store outlives a supervisor that was killed: capture needs it to deliver.
const STORE_GRACE: Duration = Duration::from_secs(3);

/// Ends this process, a capture, as soon as its supervisor ends. The handler of SIGTERM must be installed before.
pub fn end_with_supervisor() {
    // Refused only by kernels without PR_SET_PDEATHSIG; the pipe does the same job then.
    let _ = engine_sys::process::die_with_parent(libc::SIGTERM);
    watch(Duration::ZERO);
}

/// Ends this process, a store, on request of its supervisor, and some time after a supervisor that was killed.
pub fn end_after_supervisor() {
    watch(STORE_GRACE);
}

fn watch(grace: Duration) {
    let supervisor = parent_id();
    let watch = move || {
        let mut nothing = [0; 64];
        while std::io::stdin()
            .read(&mut nothing)
            .is_ok_and(|read| read > 0)
        {}
        if parent_id() != supervisor {
            std::thread::sleep(grace);
        }
        let _ = signal_hook::low_level::raise(libc::SIGTERM);
    };
    let _ = std::thread::Builder::new()
        .name("supervisor-watch".into())
        .spawn(watch);
}
