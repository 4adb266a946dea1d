//! What a child of the supervisor does so that it never outlives it: when its standard input ends, or the supervisor
//! dies, it ends as on SIGTERM, which delivers or commits what it holds.

use std::io::Read;
use std::os::unix::process::parent_id;
use std::time::Duration;

/// How long the store outlives a supervisor that was killed: capture needs it to deliver.
const STORE_GRACE: Duration = Duration::from_secs(3);

/// Capture ends at once when its supervisor goes away. The handler of SIGTERM must stand already.
pub fn end_with_supervisor() {
    // Refused only by kernels without PR_SET_PDEATHSIG; the pipe does the same job then.
    let _ = engine_sys::process::die_with_parent(libc::SIGTERM);
    watch(Duration::ZERO);
}

/// The store ends when told to, and a little after a supervisor that was killed.
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
