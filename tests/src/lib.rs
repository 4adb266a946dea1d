//! The harness of the integration tests: the built program, network namespaces, nginx, a browser, known truth.
//!
//! Tests run the real program on real interfaces. A missing tool is an error that names it; `tests/run` installs it.
//! Traffic stays on loopback and in namespaces that a test makes and removes.

pub mod browser;
pub mod capture;
pub mod captures;
pub mod clickhouse;
pub mod clients;
pub mod clock;
pub mod disk;
pub mod engine;
pub mod faults;
pub mod haproxy;
pub mod http;
pub mod http2;
pub mod imports;
pub mod meter;
pub mod network;
pub mod nginx;
pub mod process;
pub mod program;
pub mod recorder;
pub mod scene;
pub mod store;
pub mod targets;
pub mod tmux;
pub mod truth;
pub mod websocket;
