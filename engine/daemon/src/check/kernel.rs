//! What this kernel, and the confinement of this process, permit: io_uring, landlock, seccomp. Each is tried.

use std::sync::Arc;

use engine_sys::driver::{Choice, Driver, Kind};
use engine_sys::event::EventFd;

use super::finding::{Finding, Level};
use crate::sandbox::{Files, Plan};

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![release(), uploader()];
    findings.extend(sandbox());
    findings
}

fn release() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Finding::new(Level::Info, "kernel", release.trim())
}

fn uploader() -> Finding {
    const TOPIC: &str = "uploader";
    let driver = EventFd::new().and_then(|event| Driver::open(Choice::Auto, Arc::new(event)));
    match driver.map(|driver| driver.kind()) {
        Ok(Kind::Uring) => Finding::new(Level::Ok, TOPIC, Kind::Uring.to_string()),
        Ok(kind) => Finding::new(Level::Info, TOPIC, kind.to_string())
            .why("a little more CPU, nothing else"),
        Err(error) => Finding::new(
            Level::Fail,
            TOPIC,
            format!("neither io_uring nor epoll: {error}"),
        ),
    }
}

/// Landlock is tried on a thread that then ends. A filter of system calls would apply to the whole process, so only its
/// availability is checked.
fn sandbox() -> [Finding; 2] {
    let tried = std::thread::spawn(|| Plan::reader(&[], false).confine_files()).join();
    let files = tried.unwrap_or(Files::Off("it could not be tried".into()));
    let level = match files {
        Files::On { .. } => Level::Ok,
        Files::Off(_) => Level::Info,
    };
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    let has_filters = actions.is_ok_and(|actions| {
        let mut actions = actions.split_whitespace();
        actions.any(|action| action == "errno")
    });
    let seccomp = if has_filters {
        Finding::new(Level::Ok, "seccomp", "system calls can be filtered")
    } else {
        let text = "this kernel does not filter system calls";
        Finding::new(Level::Info, "seccomp", text)
    };
    let why = "the sandbox goes as far as the kernel does";
    [
        Finding::new(level, "landlock", files.to_string()).why(why),
        seccomp.why(why),
    ]
}
