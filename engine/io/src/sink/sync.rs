//! What threads share of the standard library and the kernel, under one name each, so that a model of them can take their place
//! (`engine/io/tests/wake_up.rs`).

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};

pub(super) use engine_sys::event::EventFd;
