//! Addresses of the next hop to a collector, or a connection to its Unix socket. A name is looked up in a delegate, and a
//! socket is connected to by one, since what either takes is not allowed in this process; and on a thread of its own, since
//! it blocks.
//!
//! One thread for a URL, started with the first question: a resolver that hangs delays the next look-up, and never the
//! uploader.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use super::addresses::{addresses_now, known};
use super::route::Route;
use crate::delegate::Delegate;

/// What leads to a collector.
#[derive(Debug)]
pub(super) enum Found {
    /// Addresses, in the order in which they should be tried.
    Addresses(Vec<SocketAddr>),
    /// A connection.
    Connected(OwnedFd),
}

/// Gives look-ups to the thread.
pub(super) struct Resolver {
    route: Route,
    questions: RefCell<Option<Sender<Question>>>,
}

/// Where the addresses go.
type Question = Arc<Mutex<Answer>>;

#[derive(Default)]
struct Answer {
    found: Option<io::Result<Found>>,
    waker: Option<Waker>,
}

/// What leads to the collector. Waits for it.
fn find_now(route: &Route) -> io::Result<Found> {
    match (route.hop(), route.url.socket(), &route.delegate) {
        (Some(hop), _, delegate) => addresses_now(hop, delegate.as_ref()).map(Found::Addresses),
        (None, Some(_), Some(delegate)) => {
            let mut delegate = delegate.lock().unwrap_or_else(PoisonError::into_inner);
            delegate.connect().map(Found::Connected)
        }
        (None, Some(socket), None) => {
            let connected = UnixStream::connect(socket)?;
            Ok(Found::Connected(connected.into()))
        }
        (None, None, _) => Err(io::Error::other("nothing leads there")),
    }
}

impl Resolver {
    pub(super) fn new(route: Route) -> Self {
        Self {
            route,
            questions: RefCell::default(),
        }
    }

    /// What leads to the collector.
    pub(super) async fn find(&self) -> io::Result<Found> {
        if let Some(addresses) = self.route.hop().and_then(known) {
            return Ok(Found::Addresses(addresses));
        }
        let answer = Question::default();
        self.ask(answer.clone())?;
        std::future::poll_fn(move |cx| {
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            match answer.found.take() {
                Some(found) => Poll::Ready(found),
                None => {
                    answer.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn ask(&self, question: Question) -> io::Result<()> {
        let mut questions = self.questions.borrow_mut();
        if questions.is_none() {
            let (sender, receiver) = channel();
            let route = self.route.clone();
            thread::Builder::new()
                .name("resolver".to_owned())
                .spawn(move || answer_all(&receiver, &route))?;
            *questions = Some(sender);
        }
        let sent = questions.as_ref().map(|sender| sender.send(question));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("the resolver thread has ended")),
        }
    }
}

fn answer_all(questions: &Receiver<Question>, route: &Route) {
    let mut last = Vec::new();
    for question in questions {
        // Nothing waits for it any longer: a retry has sent the name again.
        if Arc::strong_count(&question) == 1 {
            continue;
        }
        let found = match find_now(route) {
            Ok(Found::Addresses(addresses)) => {
                last.clone_from(&addresses);
                Ok(Found::Addresses(addresses))
            }
            // It cannot be started again, so the addresses of its last answer have to do.
            Err(error) if Delegate::has_ended(&error) && last.is_empty() => Err(io::Error::other(
                "the process that finds it has ended; restart the sniffer",
            )),
            Err(error) if Delegate::has_ended(&error) => Ok(Found::Addresses(last.clone())),
            found => found,
        };
        let mut answer = question.lock().unwrap_or_else(PoisonError::into_inner);
        answer.found = Some(found);
        if let Some(waker) = answer.waker.take() {
            waker.wake();
        }
    }
}
