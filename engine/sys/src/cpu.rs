//! Cores: which ones this process may use, and staying on one.
//!
//! Starts from the affinity mask of the calling thread, so a container's cpuset is respected.

use core_affinity::CoreId;

/// Numbers of the cores that the calling thread may run on, ascending. Empty if the kernel does not report them.
pub fn allowed() -> Vec<usize> {
    let mut cores: Vec<_> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect();
    cores.sort_unstable();
    cores
}

/// Pins the calling thread to `core`; returns whether that worked.
pub fn pin(core: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: core })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pinned_thread_has_one_core() {
        std::thread::spawn(|| {
            let last = super::allowed().pop().expect("there is a core");
            assert!(super::pin(last));
            assert_eq!(super::allowed(), [last]);
        })
        .join()
        .unwrap();
    }
}
