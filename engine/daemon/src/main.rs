//! The program `sniffer`; everything is in the library beside it.

use std::process::ExitCode;

/// mimalloc frees from another thread than the one that allocated without a lock: bundles do that all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sniffer::main()
}
