//! Whole conversations through [`Connection`](crate::http::Connection): messages, protocols, losses, random and hostile
//! input.

mod flow;
mod hostile;
mod losses;
mod messages;
mod protocols;
mod random;
mod recorder;
mod vectors;
