//! The exchanges of one connection that are not over: what is known of each.

use crate::http::UnpairedReason;

/// The request of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// It is being read.
    Open,
    /// It was read to its end.
    Done,
    /// It is not known, for this reason: the exchange began with its response.
    Unseen(UnpairedReason),
}

/// The response of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// It has not begun.
    Awaited,
    /// It is being read.
    Open,
    /// It was read to its end.
    Done,
    /// None will be attributed to the request.
    GivenUp,
}

/// What a request's method means for the body of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    Other,
    /// The request is not known.
    Unknown,
}

impl Method {
    /// That of a request.
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// Whether the response of an exchange is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// Proven.
    Certain,
    /// Unless another response comes before the next request.
    Probable,
    /// It is another's.
    Refuted,
}

/// One exchange that is not over; `D` is [`Exchanges::Draft`](crate::http::Exchanges::Draft).
#[derive(Debug)]
pub(in crate::http) struct Exchange<D> {
    pub(super) draft: D,
    pub(super) call_index: u64,
    pub(super) method: Method,
    pub(super) request: Request,
    pub(super) response: Response,
    pub(super) pair: Pair,
    /// Requests that were not seen may have been unanswered when this one was sent.
    pub(super) is_ambiguous: bool,
    /// Offset of the request in its direction.
    pub(super) offset: u64,
    /// What the request acknowledged of the responses: its own does not start before.
    pub(super) acked: u64,
}

impl<D> Exchange<D> {
    /// Whether nothing more can come of it.
    pub(super) fn is_over(&self) -> bool {
        let is_answered = match self.response {
            Response::Awaited | Response::Open => false,
            Response::Done => self.pair != Pair::Probable,
            Response::GivenUp => true,
        };
        is_answered && self.request != Request::Open
    }

    /// Whether it waits for its response.
    pub(super) fn waits(&self) -> bool {
        self.response == Response::Awaited
    }

    /// As far as acknowledgements show, a response that starts at `offset` and acknowledges `acked` can be its own.
    pub(super) fn admits(&self, offset: u64, acked: u64) -> bool {
        self.acked <= offset && self.offset < acked
    }
}
