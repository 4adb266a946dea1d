//! Sinks: the places that bundles are delivered to.

pub mod http;
