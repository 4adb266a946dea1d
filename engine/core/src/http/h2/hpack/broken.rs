//! The one error of HPACK: a block that cannot be decoded.

/// The rest of the direction cannot be decoded (RFC 7541 §2.3.3, §5, §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http::h2) struct Broken;
