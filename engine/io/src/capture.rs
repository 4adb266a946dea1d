//! The capture of packets: which interfaces, the rings on them, and the threads that read the rings.

mod busy;
pub mod hotplug;
pub mod interfaces;
pub mod kept;
pub mod orders;
pub mod overload;
pub mod rings;
pub mod self_traffic;
pub mod shard;
pub mod source;
pub mod split_flows;
