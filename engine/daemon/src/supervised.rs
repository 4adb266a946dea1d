//! What a child of the supervisor does so that it never outlives it: when standard input ends, or the supervisor dies,
//! it ends as on SIGTERM, which delivers what it holds.

use std::io::Read;

/// From now on this process gets SIGTERM when its supervisor goes away or closes our standard input.
///
/// The signal's handler must stand already.
pub fn end_with_supervisor() {
    // Refused only by kernels without PR_SET_PDEATHSIG; the pipe below does the same job then.
    let _ = engine_sys::process::die_with_parent(libc::SIGTERM);
    let watch = || {
        let mut nothing = [0; 64];
        while std::io::stdin()
            .read(&mut nothing)
            .is_ok_and(|read| read > 0)
        {}
        let _ = signal_hook::low_level::raise(libc::SIGTERM);
    };
    let _ = std::thread::Builder::new()
        .name("supervisor-watch".into())
        .spawn(watch);
}
