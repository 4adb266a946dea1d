//! Uploads of sniffers among the traffic that is read: how they are marked, and which requests are skipped for it.
//!
//! A sniffer that reads its own uploads makes calls of them, and the upload of these is the next call: it feeds on itself
//! for ever, and two sniffers feed each other. Addresses do not prevent that (a proxy, a name that moves, a collector that
//! is mirrored), so every upload has a header that proxies keep ([`Marker`], `docs/contract.md` section 2.1). A request
//! with it is skipped, with its answer, and counted:
//!
//! - one of this process when the keyed hashes in the marker hold ([`Identity`]), so that nobody hides behind its name;
//! - one of another sniffer when it is what an upload is: a `POST` of NDJSON whose first line is a call, or a ledger;
//! - one of a store when it is a statement for its database.
//!
//! The decision needs the first bytes of the body, at most [`UPLOAD_BEGINNING_BYTES_MAX`]; until then the request is read
//! as any other ([`Candidate`]). A protocol is read by a reader of its own, and each of them reports its heads as
//! [`RequestHead`](crate::http::RequestHead): an upload is recognised there, whatever the protocol.
//!
//! [`UPLOAD_BEGINNING_BYTES_MAX`]: crate::limits::UPLOAD_BEGINNING_BYTES_MAX

mod candidate;
mod config;
mod first_line;
mod marker;
mod senders;
mod statement;

pub use candidate::{Candidate, End, Verdict};
pub use config::Config;
pub use marker::{Identity, Marker, NAME, Upload};
pub use senders::{Sender, SenderTable, SenderUploads};
