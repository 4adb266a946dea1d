//! Descriptors that pass between processes over a Unix socket (unix(7), `SCM_RIGHTS`).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sends a descriptor, with one byte that carries it. It never waits.
///
/// # Errors
///
/// `EAGAIN` where the other end does not take what was sent, `EPIPE` where there is none.
pub fn send(over: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> Result<()> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // There is room for exactly this one.
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(over, &[IoSlice::new(&[0])], &mut control, flags).map(drop)
}

/// Waits for the next descriptor; `None` when the other end is closed. Whatever comes without a descriptor, or with more than
/// one, is passed over.
///
/// # Errors
///
/// It is no socket.
pub fn receive(over: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    loop {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            over,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let received = match received {
            Err(Errno::INTR) => continue,
            received => received?,
        };
        // Those that found no room are closed by the kernel, the others when they are dropped.
        let is_whole = !received.flags.contains(ReturnFlags::CTRUNC);
        let mut descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        if let Some(descriptor) = descriptors.next().and_then(|mut some| some.next())
            && is_whole
        {
            return Ok(Some(descriptor));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_passes_and_what_has_no_descriptor_does_not() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        here.write_all(b"text").unwrap();
        send(here.as_fd(), theirs.as_fd()).unwrap();
        drop(theirs);
        let passed = receive(there.as_fd()).unwrap().unwrap();
        ours.write_all(b"hello").unwrap();
        let mut text = [0; 5];
        UnixStream::from(passed).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
        drop(here);
        assert!(receive(there.as_fd()).unwrap().is_none());
        assert_eq!(send(there.as_fd(), ours.as_fd()), Err(Errno::PIPE));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(receive(file.as_fd()).unwrap_err(), Errno::NOTSOCK);
    }

    #[test]
    fn a_full_socket_refuses_at_once() {
        let (here, _there) = UnixStream::pair().unwrap();
        let refused = (0..100_000).find_map(|_| send(here.as_fd(), here.as_fd()).err());
        // The queue of the socket, or the descriptors that a user may have on their way.
        assert!(
            matches!(refused, Some(Errno::AGAIN | Errno::TOOMANYREFS)),
            "{refused:?}"
        );
    }
}
