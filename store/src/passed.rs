//! Connections to the capture URL without a listener: a supervisor passes the descriptors of sockets that are connected.
//!
//! Only the supervisor's own capture has such a connection, so nobody else can fill what is kept for it: these connections have
//! places, bytes and a sender ([`Sender::Capture`](crate::sender::Sender::Capture)) of their own.

use std::os::unix::net::UnixStream;

use tokio::sync::mpsc;

use crate::limits::PASSED_WAITING_MAX;

/// The end to which the descriptors come.
#[derive(Clone, Debug)]
pub struct Passing(mpsc::Sender<UnixStream>);

impl Passing {
    /// Passes a connection on. It is closed when [`PASSED_WAITING_MAX`] of them wait, or when the store has ended.
    pub fn pass(&self, connection: UnixStream) {
        drop(self.0.try_send(connection));
    }
}

/// The end that serves them.
#[derive(Debug)]
pub struct Passed(pub(crate) mpsc::Receiver<UnixStream>);

/// Both ends.
pub fn passing() -> (Passing, Passed) {
    let (sender, receiver) = mpsc::channel(PASSED_WAITING_MAX);
    (Passing(sender), Passed(receiver))
}
