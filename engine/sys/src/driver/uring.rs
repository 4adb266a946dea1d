//! io_uring: the kernel does the operations and reports their completion.
//!
//! All but the sending of bytes, which is a system call, tried at once and again when the ring reports that the socket has
//! room. A ring that sends can do more than deliver: its entry may name any socket of the process, such as a packet socket,
//! and carry an address and flags that connect elsewhere, and no filter of system calls sees that.
//!
//! Source: io_uring(7), io_uring_setup(2), io_uring_enter(2).
#![expect(unsafe_code, reason = "submitting hands pointers to the kernel")]

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::register::Restriction;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{Builder, IoUring, opcode, squeue};

use super::address;
use super::buffer::Buffer;
use super::operation::{Completion, InFlight, OpId, Operation};
use crate::event::EventFd;

/// Submission queue slots. An operation that finds none is submitted with those before it, so this bounds a batch only.
const ENTRIES: u32 = 64;

/// `user_data` of the wait for the event; operations count up from zero and never get there.
const EVENT: u64 = u64::MAX;

/// `user_data` of cancellations, whose own completion carries no information.
const CANCEL: u64 = u64::MAX - 1;

/// How long a drop waits for cancelled operations before it gives up their memory.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Uring {
    ring: IoUring,
    event: Arc<EventFd>,
    /// A poll of `event` is in flight.
    armed: bool,
    /// What the kernel may still read or write. An entry leaves at its completion and in no other way.
    flight: HashMap<u64, InFlight>,
    /// Operations that have ended without the ring: they sent, or could not be submitted.
    ended: Vec<Completion>,
    /// How long a drop waits for the rest.
    patience: Duration,
}

impl Uring {
    pub(super) fn open(event: Arc<EventFd>) -> io::Result<Self> {
        let ring = build()?;
        // Waiting with a time-out (5.11), and completions that are kept when their queue is full (5.5).
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        Ok(Self {
            ring,
            event,
            armed: false,
            flight: HashMap::new(),
            ended: Vec::new(),
            patience: DROP_PATIENCE,
        })
    }

    pub(super) fn start(&mut self, OpId(id): OpId, mut work: InFlight) {
        let fd = Fd(work.socket.fd());
        if let Operation::Connect(to) = work.operation {
            work.buffer = address::encode(to).into();
        }
        let entry = match work.operation {
            Operation::Connect(_) => opcode::Connect::new(
                fd,
                work.buffer.as_ptr().cast(),
                work.buffer.len() as libc::socklen_t,
            )
            .build(),
            Operation::Send(from) => match work.socket.send(&work.buffer[from..]) {
                Err(error) if is_for_later(&error) => {
                    opcode::PollAdd::new(fd, libc::POLLOUT as u32).build()
                }
                result => {
                    self.ended.push(completion(id, work, result));
                    return;
                }
            },
            Operation::Recv => {
                let memory = work.buffer.own();
                opcode::Recv::new(fd, memory.as_mut_ptr(), length(memory.len())).build()
            }
        };
        // Kept before it is pushed: moving the buffer into the map does not move its bytes.
        self.flight.insert(id, work);
        // SAFETY: the entry points into `buffer` and names the descriptor of `socket`, and both stay in `flight`
        // until the completion of `id`.
        if let Err(error) = unsafe { self.push(&entry.user_data(id)) } {
            // Not in the queue, so the kernel has not seen it.
            if let Some(work) = self.flight.remove(&id) {
                self.ended.push(completion(id, work, Err(error)));
            }
        }
    }

    pub(super) fn cancel(&mut self, OpId(id): OpId) {
        let Some(work) = self.flight.get(&id) else {
            return;
        };
        let sends = matches!(work.operation, Operation::Send(_));
        let entry = opcode::AsyncCancel::new(id).build().user_data(CANCEL);
        // SAFETY: the entry holds no pointer. If it cannot be submitted, the operation ends by itself.
        let _ = unsafe { self.push(&entry) };
        // The kernel only waits for room and has no pointer, so this one ends here, whatever the kernel has seen by now.
        if sends && let Some(work) = self.flight.remove(&id) {
            let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
            self.ended.push(completion(id, work, result));
        }
    }

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        completed: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        if !self.armed {
            let poll =
                opcode::PollAdd::new(Fd(self.event.as_fd().as_raw_fd()), libc::POLLIN as u32)
                    .build();
            // SAFETY: the entry holds no pointer; `self` owns the event while the poll is in flight.
            unsafe { self.push(&poll.user_data(EVENT))? };
            self.armed = true;
        }
        completed.append(&mut self.ended);
        let timeout = if completed.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        self.enter(timeout)?;
        let mut with_room = Vec::new();
        let woken = self.reap(completed, &mut with_room);
        for (id, work) in with_room {
            self.start(OpId(id), work);
        }
        completed.append(&mut self.ended);
        Ok(woken)
    }

    /// Submits what is queued and waits for one completion.
    fn enter(&self, timeout: Option<Duration>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let entered = match timeout {
            None => submitter.submit_and_wait(1),
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        match entered {
            Ok(_) => Ok(()),
            // EBUSY: completions have to be taken first, which the caller does next.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes all completions, and apart from them what can go on to send; returns whether the event was set.
    fn reap(
        &mut self,
        completed: &mut Vec<Completion>,
        with_room: &mut Vec<(u64, InFlight)>,
    ) -> bool {
        let mut woken = false;
        for entry in self.ring.completion() {
            match entry.user_data() {
                CANCEL => {}
                EVENT => {
                    self.armed = false;
                    woken |= self.event.reset();
                }
                id => {
                    let result = usize::try_from(entry.result())
                        .map_err(|_| io::Error::from_raw_os_error(entry.result().saturating_neg()));
                    match self.flight.remove(&id) {
                        // What the ring reports is that the socket has room, or an error that the send will meet as well.
                        Some(work)
                            if matches!(work.operation, Operation::Send(_)) && result.is_ok() =>
                        {
                            with_room.push((id, work));
                        }
                        Some(work) => completed.push(completion(id, work, result)),
                        None => {}
                    }
                }
            }
        }
        woken
    }

    /// Queues an entry, submitting those before it when the queue is full.
    ///
    /// # Safety
    ///
    /// What the entry points to must stay valid, and its descriptor open, until its completion was reaped.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: as the caller promises.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let ids: Vec<_> = self.flight.keys().copied().collect();
        for id in ids {
            self.cancel(OpId(id));
        }
        let start = Instant::now();
        let mut completed = Vec::new();
        while !self.flight.is_empty() && start.elapsed() < self.patience {
            if self.enter(Some(Duration::from_millis(50))).is_err() {
                break;
            }
            self.reap(&mut completed, &mut Vec::new());
        }
        // The kernel may still write to what is left: better lost than freed.
        mem::forget(mem::take(&mut self.flight));
    }
}

/// The best ring that this kernel makes: completions run when we wait for them (6.1), at least without interrupting
/// us (5.19), or as of old.
fn build() -> io::Result<IoUring> {
    let with = |flags: fn(&mut Builder) -> &mut Builder| -> io::Result<IoUring> {
        let ring = flags(IoUring::builder().setup_r_disabled()).build(ENTRIES)?;
        restrict(&ring)?;
        Ok(ring)
    };
    with(|builder| {
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
    })
    .or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => with(Builder::setup_coop_taskrun),
        _ => Err(error),
    })
    .or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => with(|builder| builder),
        _ => Err(error),
    })
}

/// A filter of system calls does not see what a ring does, so the ring itself takes nothing but these, without flags, and
/// lets nothing be registered; for good (io_uring_register(2), `IORING_REGISTER_RESTRICTIONS`, Linux 5.10).
fn restrict(ring: &IoUring) -> io::Result<()> {
    let operations = [
        opcode::Connect::CODE,
        opcode::Recv::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
    ];
    let mut restrictions = operations.map(Restriction::sqe_op);
    let submitter = ring.submitter();
    submitter.register_restrictions(&mut restrictions)?;
    submitter.register_enable_rings()
}

/// Whether the socket had no room for a single byte.
fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// A length as the kernel takes it; the rest of a longer buffer is for the next operation.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn completion(id: u64, work: InFlight, result: io::Result<usize>) -> Completion {
    let buffer = match work.operation {
        Operation::Connect(_) => Buffer::default(),
        Operation::Send(_) | Operation::Recv => work.buffer,
    };
    Completion {
        id: OpId(id),
        result,
        buffer,
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket::Socket;
    use super::*;

    /// A kernel that has not completed a cancelled operation when the ring is dropped keeps its memory and its socket.
    #[test]
    fn what_the_kernel_completes_late_is_never_freed() {
        use std::os::unix::net::UnixStream;
        for (patience, is_freed) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
            let mut uring = Uring::open(Arc::new(EventFd::new().unwrap())).unwrap();
            uring.patience = patience;
            let (ours, _peer) = UnixStream::pair().unwrap();
            let socket = Socket::adopted(ours.into());
            let work = InFlight {
                socket: socket.clone(),
                operation: Operation::Recv,
                buffer: vec![0; 4096].into(),
            };
            uring.start(OpId(0), work);
            uring.enter(Some(Duration::ZERO)).unwrap();
            assert_eq!(socket.owners(), 2);
            drop(uring);
            // The operation owns buffer and socket together, and whoever frees one frees the other.
            assert_eq!(socket.owners() == 1, is_freed, "{patience:?}");
        }
    }

    #[test]
    fn a_ring_takes_no_other_operation() {
        let mut ring = build().expect("this kernel has io_uring");
        let name = c"/etc/hostname";
        let address = address::encode("127.0.0.1:9".parse().unwrap());
        let at = address.as_ptr().cast();
        let size = address.len() as libc::socklen_t;
        let (byte, none): (_, *const u8) = (&raw const address[0], std::ptr::null());
        let fd = Fd(2);
        for entry in [
            opcode::OpenAt::new(Fd(libc::AT_FDCWD), name.as_ptr()).build(),
            opcode::Nop::new().build(),
            // Each of these can send: to another port, and from whichever socket of the process its entry names.
            opcode::Send::new(fd, byte, 1)
                .flags(libc::MSG_FASTOPEN)
                .dest_addr(at)
                .dest_addr_len(size)
                .build(),
            opcode::SendZc::new(fd, byte, 1).build(),
            opcode::SendMsg::new(fd, none.cast()).build(),
            opcode::Write::new(fd, byte, 1).build(),
            opcode::Writev::new(fd, none.cast(), 0).build(),
            opcode::Splice::new(fd, -1, fd, -1, 1).build(),
            // And each of these makes or passes on a descriptor.
            opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0).build(),
            opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build(),
            opcode::RecvMsg::new(fd, std::ptr::null_mut()).build(),
            opcode::MsgRingData::new(fd, 0, 0, None).build(),
            opcode::EpollCtl::new(fd, fd, libc::EPOLL_CTL_ADD, none.cast()).build(),
        ] {
            // SAFETY: what the entries point to outlives the wait for their completion.
            unsafe { ring.submission().push(&entry) }.unwrap();
            ring.submit_and_wait(1).unwrap();
            let completion = ring.completion().next().unwrap();
            assert_eq!(completion.result(), -libc::EACCES, "{entry:?}");
        }
        let files = ring.submitter().register_files(&[0]);
        assert_eq!(files.unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
