//! JSON text of one line.
