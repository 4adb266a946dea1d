//! Futures over the driver: operations, timers and a few tasks on one thread.
//!
//! Nothing here is shared with another thread but the wakers, which a helper thread may call.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use engine_sys::driver::{Buffer, Completion, Driver, OpId, Socket};

use crate::sink::parker::Parker;

/// The driver with who waits for what.
pub(super) struct Reactor {
    inner: RefCell<Inner>,
}

struct Inner {
    driver: Driver,
    /// Operations that somebody waits for. A completion of any other is dropped with its buffer.
    expected: HashMap<OpId, Expected>,
    timers: BTreeMap<(Instant, u64), Waker>,
    next_timer: u64,
    completed: Vec<Completion>,
}

#[derive(Default)]
struct Expected {
    waker: Option<Waker>,
    completion: Option<Completion>,
}

impl Reactor {
    pub(super) fn new(driver: Driver) -> Rc<Self> {
        let inner = Inner {
            driver,
            expected: HashMap::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            completed: Vec::new(),
        };
        Rc::new(Self {
            inner: RefCell::new(inner),
        })
    }

    pub(super) fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        self.inner.borrow().driver.socket(to)
    }

    pub(super) fn adopt(&self, socket: OwnedFd) -> io::Result<Socket> {
        self.inner.borrow().driver.adopt(socket)
    }

    pub(super) fn connect(&self, socket: &Socket, to: SocketAddr) -> OpId {
        self.expect(|driver| driver.connect(socket, to))
    }

    pub(super) fn send(&self, socket: &Socket, buffer: Buffer, from: usize) -> OpId {
        self.expect(|driver| driver.send(socket, buffer, from))
    }

    pub(super) fn recv(&self, socket: &Socket, buffer: Vec<u8>) -> OpId {
        self.expect(|driver| driver.recv(socket, buffer))
    }

    fn expect(&self, start: impl FnOnce(&mut Driver) -> OpId) -> OpId {
        let mut inner = self.inner.borrow_mut();
        let id = start(&mut inner.driver);
        inner.expected.insert(id, Expected::default());
        id
    }

    /// The completion of an operation, given out once.
    pub(super) fn poll(&self, id: OpId, cx: &Context<'_>) -> Poll<Completion> {
        let mut inner = self.inner.borrow_mut();
        let Some(expected) = inner.expected.get_mut(&id) else {
            return Poll::Pending;
        };
        match expected.completion.take() {
            Some(completion) => {
                inner.expected.remove(&id);
                Poll::Ready(completion)
            }
            None => {
                expected.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Nobody waits for this operation any longer.
    pub(super) fn abandon(&self, id: OpId) {
        let mut inner = self.inner.borrow_mut();
        if inner
            .expected
            .remove(&id)
            .is_some_and(|expected| expected.completion.is_none())
        {
            inner.driver.cancel(id);
        }
    }

    /// A future that is ready at `deadline`.
    pub(super) fn sleep_until(self: &Rc<Self>, deadline: Instant) -> Sleep {
        Sleep {
            reactor: self.clone(),
            deadline,
            key: None,
        }
    }

    /// The result of `future`, or `None` when `limit` is over before.
    pub(super) async fn within<T>(
        self: &Rc<Self>,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let mut over = self.sleep_until(Instant::now() + limit);
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            Pin::new(&mut over).poll(cx).map(|()| None)
        })
        .await
    }

    /// Waits for completions, the earliest timer, the parker's event, or `until`; then wakes the tasks that it concerns.
    pub(super) fn turn(&self, until: Option<Instant>) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        let first = inner.timers.first_key_value().map(|(&(at, _), _)| at);
        let until = [first, until].into_iter().flatten().min();
        let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
        let Inner {
            driver,
            expected,
            completed,
            timers,
            ..
        } = &mut *inner;
        driver.wait(timeout, completed)?;
        for completion in completed.drain(..) {
            if let Some(expected) = expected.get_mut(&completion.id) {
                expected.completion = Some(completion);
                if let Some(waker) = expected.waker.take() {
                    waker.wake();
                }
            }
        }
        let now = Instant::now();
        while let Some(timer) = timers.first_entry()
            && timer.key().0 <= now
        {
            timer.remove().wake();
        }
        Ok(())
    }
}

/// Ready at a time.
pub(super) struct Sleep {
    reactor: Rc<Reactor>,
    deadline: Instant,
    key: Option<(Instant, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        let key = self.key;
        let mut inner = self.reactor.inner.borrow_mut();
        let key = key.unwrap_or_else(|| {
            inner.next_timer += 1;
            (self.deadline, inner.next_timer)
        });
        inner.timers.insert(key, cx.waker().clone());
        drop(inner);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.reactor.inner.borrow_mut().timers.remove(&key);
        }
    }
}

/// Futures that run until they are done.
pub(super) struct Tasks {
    tasks: Vec<Task>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
    waker: Waker,
}

/// Set when a task has something to do.
struct Flag {
    woken: AtomicBool,
    parker: Arc<Parker>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.parker.unpark();
    }
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { tasks: Vec::new() }
    }

    pub(super) fn spawn(
        &mut self,
        parker: &Arc<Parker>,
        future: impl Future<Output = ()> + 'static,
    ) {
        let flag = Arc::new(Flag {
            woken: AtomicBool::new(true),
            parker: parker.clone(),
        });
        let waker = Waker::from(flag.clone());
        self.tasks.push(Task {
            future: Box::pin(future),
            flag,
            waker,
        });
    }

    /// Polls every task that was woken; whether there was one.
    pub(super) fn run(&mut self) -> bool {
        let mut ran = false;
        self.tasks.retain_mut(|task| {
            if !task.flag.woken.swap(false, Ordering::Acquire) {
                return true;
            }
            ran = true;
            task.future
                .as_mut()
                .poll(&mut Context::from_waker(&task.waker))
                .is_pending()
        });
        ran
    }

    /// Whether a task was woken since it ran.
    pub(super) fn any_woken(&self) -> bool {
        self.tasks
            .iter()
            .any(|task| task.flag.woken.load(Ordering::Acquire))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}
