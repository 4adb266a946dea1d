//! The ledger of the sink, posted now and then and at the end to `/ledger` beside the capture URL (`docs/contract.md`, section 2).
//!
//! The numbers are sums since the start, so that a post that fails needs no other: the next one has all of it. It goes to the first
//! collector that takes it. One that does not have the path is no store of this program; it is left alone from then on.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::{Endpoint, post_ledger};
use super::retry::Outcome;
use crate::limits::LEDGER_WAIT;
use crate::sink::kind::LedgerSource;

/// What is posted, and who takes it.
pub(super) struct Ledgers {
    source: Arc<OnceLock<LedgerSource>>,
    /// The indices of collectors that do not have the path.
    without: RefCell<Vec<usize>>,
}

impl Ledgers {
    pub(super) fn new(source: Arc<OnceLock<LedgerSource>>) -> Self {
        Self {
            source,
            without: RefCell::default(),
        }
    }

    /// Posts as often as this until the uploader stops, or no collector takes any.
    pub(super) async fn run(self: Rc<Self>, endpoint: Rc<Endpoint>, every: Duration) {
        while !stops_within(&endpoint, every).await {
            self.post(&endpoint).await;
            if self.without.borrow().len() == endpoint.collectors.len() {
                return;
            }
        }
    }

    /// Posts the ledger as it is now, if somebody takes it.
    pub(super) async fn post(&self, endpoint: &Endpoint) {
        let takers: Vec<usize> = (0..endpoint.collectors.len())
            .filter(|index| !self.without.borrow().contains(index))
            .collect();
        if takers.is_empty() || endpoint.dispatcher.is_down() {
            return;
        }
        let Some(body) = self.source.get().and_then(|source| source()) else {
            return;
        };
        let body = Bytes::from(body);
        for index in takers {
            let posting = post_ledger(endpoint, index, body.clone());
            match endpoint.reactor.within(LEDGER_WAIT, posting).await {
                Some(Outcome::Status(200..=299, _)) => return,
                Some(Outcome::Status(status @ (404 | 405), _)) => {
                    self.without.borrow_mut().push(index);
                    endpoint
                        .dispatcher
                        .takes_no_ledgers(index, status, Instant::now());
                }
                // The bundles show what is wrong.
                _ => {}
            }
        }
    }
}

/// Whether the uploader stops before so much time is over; waits for either.
async fn stops_within(endpoint: &Endpoint, time: Duration) -> bool {
    let mut over = pin!(endpoint.reactor.sleep_until(Instant::now() + time));
    std::future::poll_fn(|cx| match endpoint.dispatcher.stops(cx) {
        true => Poll::Ready(true),
        false => Pin::new(&mut over).poll(cx).map(|()| false),
    })
    .await
}
