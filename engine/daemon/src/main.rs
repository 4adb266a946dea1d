//! The program `sniffer`; everything is in the library of the same name.

use std::process::ExitCode;

/// mimalloc frees memory without a lock from a thread other than the one that allocated it, as bundles do all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sniffer::main()
}
