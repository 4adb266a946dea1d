//! Addresses of the collector. A name is looked up in a delegate, since what that takes is not allowed in this one,
//! and on a thread of its own, since it blocks.
//!
//! One thread, started with the first look-up: a resolver that hangs delays the next look-up, and never the uploader.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use crate::capture_url::CaptureUrl;
use crate::delegate::Delegate;

/// Gives look-ups to the thread.
pub(super) struct Resolver {
    delegate: Option<Arc<Mutex<Delegate>>>,
    questions: RefCell<Option<Sender<Question>>>,
}

/// Where the addresses go.
type Question = Arc<Mutex<Answer>>;

#[derive(Default)]
struct Answer {
    addresses: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

/// Whether its host is a name that has to be looked up.
pub(super) fn needs_delegate(url: &CaptureUrl) -> bool {
    known(url).is_none()
}

/// The addresses that need no look-up: the host is one, or names this machine. The order is that of the C library.
fn known(url: &CaptureUrl) -> Option<Vec<SocketAddr>> {
    let at = |address| SocketAddr::new(address, url.port());
    match url.address() {
        Some(address) => Some(vec![at(address)]),
        None if url.is_loopback() => Some(vec![
            at(Ipv6Addr::LOCALHOST.into()),
            at(Ipv4Addr::LOCALHOST.into()),
        ]),
        None => None,
    }
}

/// Addresses of the collector, in the order in which they should be tried. Waits for them.
pub(super) fn addresses_now(
    url: &CaptureUrl,
    delegate: Option<&Arc<Mutex<Delegate>>>,
) -> io::Result<Vec<SocketAddr>> {
    if let Some(addresses) = known(url) {
        return Ok(addresses);
    }
    let delegate = delegate.ok_or_else(|| io::Error::other("no process looks it up"))?;
    let mut delegate = delegate.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = String::from_utf8(delegate.ask()?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(lines.lines().filter_map(|line| line.parse().ok()).collect())
}

impl Resolver {
    pub(super) fn new(delegate: Option<Arc<Mutex<Delegate>>>) -> Self {
        Self {
            delegate,
            questions: RefCell::default(),
        }
    }

    /// Addresses of the collector, in the order in which they should be tried.
    pub(super) async fn resolve(&self, url: &CaptureUrl) -> io::Result<Vec<SocketAddr>> {
        if let Some(addresses) = known(url) {
            return Ok(addresses);
        }
        let answer = Question::default();
        self.ask(url, answer.clone())?;
        std::future::poll_fn(move |cx| {
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            match answer.addresses.take() {
                Some(addresses) => Poll::Ready(addresses),
                None => {
                    answer.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn ask(&self, url: &CaptureUrl, question: Question) -> io::Result<()> {
        let mut questions = self.questions.borrow_mut();
        if questions.is_none() {
            let (sender, receiver) = channel();
            let (url, delegate) = (url.clone(), self.delegate.clone());
            thread::Builder::new()
                .name("resolver".to_owned())
                .spawn(move || answer_all(&receiver, &url, delegate.as_ref()))?;
            *questions = Some(sender);
        }
        let sent = questions.as_ref().map(|sender| sender.send(question));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("the resolver thread has ended")),
        }
    }
}

fn answer_all(
    questions: &Receiver<Question>,
    url: &CaptureUrl,
    delegate: Option<&Arc<Mutex<Delegate>>>,
) {
    let mut last = Vec::new();
    for question in questions {
        // Nothing waits for it any longer: a retry has sent the name again.
        if Arc::strong_count(&question) == 1 {
            continue;
        }
        let addresses = match addresses_now(url, delegate) {
            Ok(addresses) => {
                last.clone_from(&addresses);
                Ok(addresses)
            }
            // It cannot be started again, so the addresses of its last answer have to do.
            Err(error) if Delegate::has_ended(&error) && last.is_empty() => Err(io::Error::other(
                "the process that looks it up has ended; restart the sniffer",
            )),
            Err(error) if Delegate::has_ended(&error) => Ok(last.clone()),
            Err(error) => Err(error),
        };
        let mut answer = question.lock().unwrap_or_else(PoisonError::into_inner);
        answer.addresses = Some(addresses);
        if let Some(waker) = answer.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_is_looked_up() {
        let addresses = |url: &str| {
            let url = CaptureUrl::parse(url).unwrap();
            let found = addresses_now(&url, None).map(|found| {
                let texts = found.iter().map(ToString::to_string);
                texts.collect::<Vec<_>>().join(" ")
            });
            (needs_delegate(&url), found.unwrap_or_default())
        };
        let ours = (false, "[::1]:80 127.0.0.1:80".to_owned());
        assert_eq!(addresses("http://localhost/m"), ours);
        assert_eq!(addresses("http://a.localhost/m"), ours);
        assert_eq!(
            addresses("http://[fe80::1]:9/m"),
            (false, "[fe80::1]:9".to_owned())
        );
        assert_eq!(addresses("https://lake.example/m"), (true, String::new()));
    }
}
