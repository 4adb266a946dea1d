//! The databases that calls can be kept in.

pub(crate) mod sqlite;
