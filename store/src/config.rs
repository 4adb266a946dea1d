//! The configuration of a store.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::backend::Retention;
use crate::backend::any::Location;
use crate::limits;
use crate::token::{Secret, TOKEN_NAME, Token};

/// Addresses, place and bounds of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address that `POST /message` is served on. `[::]` accepts IPv4 too, and means `0.0.0.0` where the host has no IPv6.
    pub capture: SocketAddr,
    /// Address of the page.
    pub page: SocketAddr,
    /// The token that the page requires.
    pub token: Token,
    /// The token that POSTs require; none where everybody may post.
    pub post_token: Option<Secret>,
    /// Where the calls are kept.
    pub location: Location,
    /// How many of them are kept.
    pub retention: Retention,
    /// Bytes of one POST, before and after decompression; a larger one is answered with 413.
    pub post_bytes_max: usize,
}

impl Config {
    /// The defaults, with a SQLite file in the folder `data`: capture URL on port 7701 of all addresses, page on
    /// `127.0.0.1:7700`, its token in a file beside that one.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            capture: (Ipv6Addr::UNSPECIFIED, 7701).into(),
            page: (Ipv4Addr::LOCALHOST, 7700).into(),
            token: Token::Kept(data.clone()),
            post_token: None,
            location: Location::Sqlite(data),
            retention: Retention::default(),
            post_bytes_max: limits::POST_BYTES_MAX,
        }
    }

    /// The names of all files that a store makes in its folder.
    pub fn files(&self) -> Vec<&'static str> {
        let mut files = self.location.files().to_vec();
        files.extend(matches!(self.token, Token::Kept(_)).then_some(TOKEN_NAME));
        files
    }
}
