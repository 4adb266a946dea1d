//! An exchange that waits for its end.

/// How far one side of an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Awaited,
    Open,
    Done,
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

/// How sure it is that the response of an exchange is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    Certain,
    /// Unless another response comes before the next request.
    Probable,
    /// It is another's.
    Refuted,
}

/// One exchange that is not over.
#[derive(Debug)]
pub(in crate::http) struct Exchange<D> {
    pub(super) draft: D,
    pub(super) call_index: u64,
    pub(super) method: Method,
    pub(super) request: Progress,
    pub(super) response: Progress,
    /// Offset of the request in its half.
    pub(super) offset: u64,
    /// What the request acknowledged of the responses: its own does not start before.
    pub(super) acked: u64,
    /// Requests that were not seen may have been unanswered when this one was sent.
    pub(super) doubtful: bool,
    pub(super) pair: Pair,
    /// It will end as a half; no response is given to it.
    pub(super) given_up: bool,
    /// Its request made room before its response came.
    pub(super) evicted: bool,
}

impl<D> Exchange<D> {
    pub(super) fn is_over(&self) -> bool {
        let answered = self.response == Progress::Done && self.pair != Pair::Probable;
        self.request == Progress::Done && (answered || self.given_up)
    }

    pub(super) fn waits(&self) -> bool {
        self.response == Progress::Awaited && !self.given_up
    }

    /// As far as acknowledgements tell, a response that starts at `offset` and acknowledges `acked` can be its own.
    pub(super) fn admits(&self, offset: u64, acked: u64) -> bool {
        self.acked <= offset && self.offset < acked
    }
}
