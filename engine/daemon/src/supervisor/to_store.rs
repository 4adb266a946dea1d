//! The way of connections from the capture to the store: what the one passes to its supervisor, the other gets.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::descriptors;

/// The store that connections are passed to, if there is one now.
#[derive(Clone, Debug, Default)]
pub(super) struct ToStore(Arc<Mutex<Option<UnixStream>>>);

impl ToStore {
    /// From now on this one. Without one, connections are closed, and who made them tries again later.
    pub(super) fn set(&self, store: Option<UnixStream>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = store;
    }

    /// Passes on what comes from a capture, on a thread that ends with it.
    ///
    /// # Errors
    ///
    /// The kernel gives no thread.
    pub(super) fn serve(&self, capture: UnixStream) -> std::io::Result<()> {
        let to_store = self.clone();
        let serving = move || {
            while let Ok(Some(connection)) = descriptors::receive(capture.as_fd()) {
                if !is_one_of_a_pair(&connection) {
                    continue;
                }
                let store = to_store.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(store) = &*store {
                    // One that the store does not take is closed.
                    let _ = descriptors::send(store.as_fd(), connection.as_fd());
                }
            }
        };
        std::thread::Builder::new()
            .name("to-store".into())
            .spawn(serving)
            .map(drop)
    }
}

/// A capture that was taken over could pass any other descriptor that it has, to use it from there.
fn is_one_of_a_pair(connection: &OwnedFd) -> bool {
    socket_domain(connection) == Ok(AddressFamily::UNIX)
        && socket_type(connection) == Ok(SocketType::STREAM)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn connections_reach_the_store_that_is_there() {
        let to_store = ToStore::default();
        let (supervisor, capture) = UnixStream::pair().unwrap();
        to_store.serve(supervisor).unwrap();
        let connect = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            descriptors::send(capture.as_fd(), theirs.as_fd()).unwrap();
            ours
        };
        let mut nothing = Vec::new();
        connect().read_to_end(&mut nothing).unwrap();
        assert!(nothing.is_empty(), "closed: there is no store");
        for _ in 0..2 {
            let (supervisor, store) = UnixStream::pair().unwrap();
            to_store.set(Some(supervisor));
            let mut ours = connect();
            let passed = descriptors::receive(store.as_fd()).unwrap().unwrap();
            let mut theirs = UnixStream::from(passed);
            theirs.write_all(b"hello").unwrap();
            drop(theirs);
            let mut text = String::new();
            ours.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
        }
        let (supervisor, store) = UnixStream::pair().unwrap();
        to_store.set(Some(supervisor));
        let file = std::fs::File::open("/dev/null").unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        for other in [file.as_fd(), tcp.as_fd(), datagrams.as_fd()] {
            descriptors::send(capture.as_fd(), other).unwrap();
        }
        let ours = connect();
        let passed = descriptors::receive(store.as_fd()).unwrap().unwrap();
        (&ours).write_all(b"the pair").unwrap();
        drop(ours);
        let mut text = String::new();
        UnixStream::from(passed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "the pair", "nothing else was passed on");
        to_store.set(None);
        connect().read_to_end(&mut nothing).unwrap();
    }
}
