//! The reader of a connection.
