//! Requests with the marker of an upload: read as calls until it is decided that they are none, then only counted.

use super::super::draft::Draft;
use super::super::{Output, Unwritten};
use super::LineWriter;
use crate::http::{Origin, RequestHead, Side};
use crate::uploads::{Candidate, End, Verdict};

impl<O: Output> LineWriter<O> {
    /// A request has a marker. It is decided when its body shows what it is, unless its head already does.
    #[cold]
    pub(super) fn may_be_upload(
        &mut self,
        draft: &mut Draft,
        marker: &[u8],
        head: &RequestHead<'_>,
        origin: &Origin<'_>,
    ) {
        let uploads = &self.config.uploads;
        match Candidate::new(marker, head, origin.time, uploads) {
            Some(candidate) => draft.upload = Some(Box::new(candidate)),
            None if uploads.include_others => {}
            None => self.counters.upload_markers_refused += 1,
        }
    }

    /// Bytes of the body of a request that is not decided.
    #[cold]
    pub(super) fn add_to_upload(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        bytes: &[u8],
    ) {
        let open = draft.as_mut().ok();
        let candidate = open.and_then(|open| open.upload.as_mut());
        if candidate.is_some_and(|candidate| candidate.push(bytes)) {
            self.decide_upload(draft, None);
        }
    }

    /// No more of the body will come.
    pub(super) fn end_upload(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        side: Side,
        end: End,
    ) {
        let is_open = draft.as_ref().is_ok_and(|open| open.upload.is_some());
        if is_open && side == Side::Request {
            self.decide_upload(draft, Some(end));
        }
    }

    /// Decides by what was seen: from here on the exchange is a call like any other, or only counted.
    #[cold]
    pub(super) fn decide_upload(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        end: Option<End>,
    ) {
        let open = draft.as_mut().ok();
        let Some(candidate) = open.and_then(|open| open.upload.take()) else {
            return;
        };
        match candidate.verdict(end) {
            Verdict::Neither => {
                self.counters.upload_markers_refused += 1;
                return;
            }
            Verdict::Ours => self.counters.uploads_own += 1,
            Verdict::Theirs(sender) => {
                self.counters.uploads_other += 1;
                self.senders.record(sender);
            }
        }
        if let Ok(open) = std::mem::replace(draft, Err(Unwritten::Upload)) {
            self.release(open);
        }
    }
}
