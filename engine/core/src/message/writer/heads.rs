//! Heads and trailers: their details go through the rules and into the line, and decide how the bodies are read.

use std::io::Write as _;

use super::super::content::Codings;
use super::super::draft::{Draft, Mode};
use super::super::facts::Details;
use super::super::keys::Kind;
use super::super::observer::Observer;
use super::super::rpc::{Framing, Media};
use super::super::{Config, Output, annotate, cookies, derive, url};
use super::LineWriter;
use super::Work;
use super::filter::{ActiveSet, RuleFilter, Written, set_of};
use crate::http::{
    Header, HeaderName, HeaderNames, Origin, RequestHead, ResponseHead, Side, UnpairedReason,
    Version,
};
use crate::ndjson;

impl<O: Output> LineWriter<O> {
    pub(super) fn write_request(
        &mut self,
        draft: &mut Draft,
        head: &RequestHead<'_>,
        names: HeaderNames,
        origin: &Origin<'_>,
    ) {
        let Self {
            config,
            set,
            retired,
            work,
            counters,
            ..
        } = self;
        let Some(set) = set_of(set, retired, draft.state.rule_set) else {
            return;
        };
        set.keys.work.renew();
        let Work { name, value, .. } = work;
        let mut filter = RuleFilter {
            set,
            findings: &mut draft.state.findings,
            only_tests: draft.state.sampled_out,
        };

        let host = HeaderName::Host.find(head.headers);
        if head.unknown_fields > 0 {
            filter.doubt_request(head, host.is_some());
        }
        let changed = &mut draft.state.changed;
        filter.write(Kind::RequestMethod, b"", head.method, &mut draft.start);
        if !head.target.is_empty() {
            value.clear();
            let host = host.unwrap_or_default();
            let is_odd_host = url::write(origin.scheme(), head.method, head.target, host, value);
            if is_odd_host {
                filter.search_lines(Kind::RequestHeader, b"host", host);
            }
            if !filter.write(Kind::RequestUrl, b"", value, &mut draft.start) {
                *changed = changed.and(Details::REQUEST_URL);
            }
        }

        let real_ip = config.realip_header.as_deref().map(str::as_bytes);
        value.clear();
        if let Some(client) = draft
            .state
            .connection
            .client
            .filter(|_| real_ip.is_some() || config.client_address)
        {
            // Writing to a vector does not fail.
            let _ = write!(value, "{}", annotate::Address(client));
        }
        if config.client_address {
            // First: where a proxy has named the client, its header is the last one, which is the one that counts.
            filter.write(
                Kind::RequestHeader,
                b"x-forwarded-for",
                value,
                &mut draft.request,
            );
        }
        let mut real_ip_due = real_ip;
        if let Some(name) =
            real_ip.filter(|name| !head.headers.iter().any(|header| is(header, name)))
        {
            filter.write(Kind::RequestHeader, name, value, &mut draft.request);
            real_ip_due = None;
        }
        for header in
            logged(head.headers, names, head.version).filter(|header| !header.is(HeaderName::Host))
        {
            if real_ip.is_some_and(|name| is(header, name)) {
                // What the client sent in further lines is not its address, either.
                if real_ip_due.take().is_some() {
                    filter.write(Kind::RequestHeader, header.name, value, &mut draft.request);
                }
                filter.search_lines(Kind::RequestHeader, header.name, header.value);
                continue;
            }
            let written = filter.write_header(
                Kind::RequestHeader,
                header.name,
                header.value,
                &mut draft.request,
            );
            *changed = changed.and(written);
        }
        draft.state.headers_end = draft.request.len();
        let mut left_out = 0;
        url::pairs(
            url::query(head.target),
            name,
            value,
            |name, value, parts| {
                let fits = filter.write_param(name, value, parts, &mut draft.request);
                left_out += u32::from(!fits);
            },
        );
        let rules = if names.has(HeaderName::Cookie) {
            filter.set.rules.session_rules()
        } else {
            0
        };
        for rule in 0..rules {
            for (cookie, value) in cookies::all(head.headers) {
                name.clear();
                name.extend_from_slice(cookie);
                name.make_ascii_lowercase();
                // A cookie's name is a token, so it is ASCII.
                let text = std::str::from_utf8(name).unwrap_or_default();
                let ActiveSet { rules, keys, .. } = &mut *filter.set;
                if rules.copies_cookie(rule, text, &mut keys.work) {
                    let session = &mut draft.session;
                    let fits = filter.write_field(Kind::SessionField, name, value, session);
                    left_out += u32::from(!fits);
                }
            }
        }
        draft.state.fields_left_out = left_out;
        counters.fields_limited += u64::from(left_out);
        let content_type = content_type(head.headers, names);
        let is_form = config.form_params && content_type.is_some_and(is_form_type);
        let codings = Codings::of_message(head.headers, names);
        draft.request_body.observer = content_type.and_then(Observer::of_content_type);
        draft.request_body.state.may_be_coded = may_be_coded(head.unknown_fields, names);
        let is_hidden = filter.start_body(
            Kind::RequestBody,
            &mut draft.request_body,
            head.headers,
            codings,
            is_form,
            (config.body_bytes_max, draft.state.body_bytes_max),
        );
        if is_hidden {
            *changed = changed.and(Details::REQUEST_BODY);
        }
        let media = content_type.and_then(Media::of_type);
        let body = &mut draft.request_body;
        if (config.body_tail_bytes > 0 || body.observer.is_some()) && media.is_none() {
            filter.start_extra(Kind::RequestBody, body, config);
        }
        if let Some(media) = media {
            draft.state.media = Some(media);
            derive::request(draft, media, head);
            let schema = derive::schema(draft, Side::Request, config);
            let body = &mut draft.request_body;
            derive::begin_messages(body, media, head.headers, config, schema);
        } else {
            if head.unknown_fields > 0 && content_type.is_none() {
                derive::may_be_rpc(draft, head);
            }
            if config.annotate {
                derive::plain_request(draft, head, content_type);
            }
        }
    }

    pub(super) fn write_response(&mut self, draft: &mut Draft, head: &ResponseHead<'_>) {
        let Self {
            config,
            set,
            retired,
            work,
            ..
        } = self;
        let Some(set) = set_of(set, retired, draft.state.rule_set) else {
            return;
        };
        set.keys.work.renew();
        let mut filter = RuleFilter {
            set,
            findings: &mut draft.state.findings,
            only_tests: draft.state.sampled_out,
        };
        if head.unknown_fields > 0 {
            filter.doubt_response(head);
        }
        if head.status > 0 {
            work.value.clear();
            ndjson::decimal(head.status.into(), &mut work.value);
            let unchanged = filter.write_status(&work.value, &mut draft.start);
            // A rule may have removed or replaced the code: the index then has none.
            draft.state.status = if unchanged { head.status } else { 0 };
            if !unchanged {
                draft.state.changed = draft.state.changed.and(Details::RESPONSE_CODE);
            }
        }
        let names = HeaderNames::of(head.headers);
        let changed = &mut draft.state.changed;
        for header in logged(head.headers, names, head.version) {
            let written = filter.write_header(
                Kind::ResponseHeader,
                header.name,
                header.value,
                &mut draft.response,
            );
            *changed = changed.and(written);
        }
        let content_type = content_type(head.headers, names);
        draft.response_body.observer = content_type.and_then(Observer::of_content_type);
        draft.response_body.state.may_be_coded = may_be_coded(head.unknown_fields, names);
        let is_hidden = filter.start_body(
            Kind::ResponseBody,
            &mut draft.response_body,
            head.headers,
            Codings::of_message(head.headers, names),
            false,
            (config.body_bytes_max, draft.state.body_bytes_max),
        );
        if is_hidden {
            draft.state.changed = draft.state.changed.and(Details::RESPONSE_BODY);
        }
        let media = match content_type {
            Some(content_type) => Media::of_type(content_type),
            None => draft.state.media,
        };
        let body = &mut draft.response_body;
        if (config.body_tail_bytes > 0 || body.observer.is_some()) && media.is_none() {
            filter.start_extra(Kind::ResponseBody, body, config);
        }
        if draft.state.rpc.is_some() || media.is_some() {
            Self::begin_rpc_response(config, draft, media, head);
        }
        if draft.state.operation.is_some() {
            derive::begin_errors(draft, content_type);
        }
    }

    /// The type of the request decides whether a response has messages, if it is known.
    #[cold]
    fn begin_rpc_response(
        config: &Config,
        draft: &mut Draft,
        media: Option<Media>,
        head: &ResponseHead<'_>,
    ) {
        let state = &draft.state;
        let is_known = state.request_times.is_some() && state.unknown_fields == 0;
        let is_whole = media.is_some_and(|media| media.framing == Framing::Whole);
        if state.rpc.is_none() && is_known && !is_whole {
            return;
        }
        derive::response(draft, media, head);
        if let Some(media) = media {
            let schema = derive::schema(draft, Side::Response, config);
            let body = &mut draft.response_body;
            derive::begin_messages(body, media, head.headers, config, schema);
        } else if derive::has_connect_error(draft, head)
            && draft.response_body.state.mode == Mode::Streamed
        {
            draft.response_body.state.mode = Mode::Collected;
        }
    }

    /// Some fields of a message are not known, or nothing of it: a rule that asks for them drops the call.
    #[cold]
    pub(super) fn doubt_fields(&mut self, draft: &mut Draft, side: Side) {
        let Self {
            config,
            set,
            retired,
            ..
        } = self;
        let Some(set) = set_of(set, retired, draft.state.rule_set) else {
            return;
        };
        let state = &mut draft.state;
        let has_head = match side {
            Side::Request => state.request_times.is_some(),
            Side::Response => state.response_times.is_some(),
        };
        let mut filter = RuleFilter {
            set,
            findings: &mut state.findings,
            only_tests: state.sampled_out,
        };
        filter.doubt_message(side, has_head);
        if config.annotate && side == Side::Response && state.rpc.is_some() {
            // The status of the call comes from them.
            filter.doubt("custom_field:rpc_status");
        }
    }

    /// Of a half call the other side is not known, unless there was none.
    #[cold]
    pub(super) fn doubt_half(&mut self, draft: &mut Draft, reason: UnpairedReason) {
        if draft.state.request_times.is_none() {
            self.doubt_fields(draft, Side::Request);
        }
        if draft.state.response_times.is_none() && !reason.is_final() {
            self.doubt_fields(draft, Side::Response);
        }
    }

    /// Writes headers that came behind a body, after those of the head.
    #[cold]
    pub(super) fn write_trailers(
        &mut self,
        draft: &mut Draft,
        side: Side,
        headers: &[Header<'_>],
        unknown_fields: u32,
    ) {
        let Self {
            set, retired, work, ..
        } = self;
        let Some(set) = set_of(set, retired, draft.state.rule_set) else {
            return;
        };
        let mut filter = RuleFilter {
            set,
            findings: &mut draft.state.findings,
            only_tests: draft.state.sampled_out,
        };
        let (kind, prefix) = match side {
            Side::Request => (Kind::RequestHeader, "request_header:"),
            Side::Response => (Kind::ResponseHeader, "response_header:"),
        };
        if unknown_fields > 0 {
            filter.doubt(prefix);
        }
        let mut details = std::mem::take(&mut work.spare);
        let mut left_out = 0;
        for header in headers {
            let start = details.len();
            let written = filter.put_field(kind, header.name, header.value, &mut details);
            if written == Some(Written::Unescaped) && details.len() > start {
                continue;
            }
            left_out += u32::from(written.is_none());
            filter.withhold_lines(kind, header.name, header.value, start, &mut details);
            let written = details.get(start..).unwrap_or_default();
            let source = Details::header(side, header.name);
            if source != Details::NONE && !filter.is_whole(kind, header.name, header.value, written)
            {
                draft.state.changed = draft.state.changed.and(source);
            }
        }
        match side {
            Side::Request => {
                let end = draft.state.headers_end.min(draft.request.len());
                draft.request.splice(end..end, details.iter().copied());
                draft.state.headers_end = end + details.len();
            }
            Side::Response => draft.response.extend_from_slice(&details),
        }
        details.clear();
        work.spare = details;
        if side == Side::Response {
            derive::status(draft, headers);
        }
        draft.state.fields_left_out += left_out;
        draft.state.unknown_fields = draft.state.unknown_fields.saturating_add(unknown_fields);
    }
}

/// Whether a coding may be among the fields of a head that are not known.
fn may_be_coded(unknown_fields: u32, names: HeaderNames) -> bool {
    unknown_fields > 0 && !names.has(HeaderName::ContentEncoding)
}

/// Whether a header is called `name`, as some receivers read it: without what is no visible ASCII at its ends.
fn is(header: &Header<'_>, name: &[u8]) -> bool {
    let ends = |byte: &u8| byte.is_ascii_graphic();
    let start = header.name.iter().position(ends).unwrap_or_default();
    let end = header.name.iter().rposition(ends);
    let visible = end.and_then(|end| header.name.get(start..=end));
    visible.is_some_and(|visible| visible.eq_ignore_ascii_case(name))
}

/// The headers of a message that are logged: not those that describe its framing (`docs/contract.md`, section 1.4).
///
/// The reference leaves Trailer and Content-Length out only where the body is chunked, and keeps one of several equal
/// Content-Lengths.
fn logged<'a>(
    headers: &'a [Header<'a>],
    names: HeaderNames,
    version: Version,
) -> impl Iterator<Item = &'a Header<'a>> {
    let encoding = |header: &&Header<'_>| header.is(HeaderName::TransferEncoding);
    let chunked = names.has(HeaderName::TransferEncoding)
        && version.has_transfer_codings()
        && headers.iter().filter(encoding).any(|header| {
            header
                .value
                .split(|b| *b == b',')
                .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        });
    let mut length = None;
    headers.iter().filter(move |header| {
        if header.is(HeaderName::ContentLength) {
            return !chunked && length.replace(header.value) != Some(header.value);
        }
        let trailer = chunked && header.is(HeaderName::Trailer);
        !trailer && !header.is(HeaderName::TransferEncoding)
    })
}

/// The content type of a message.
#[inline]
fn content_type<'a>(headers: &[Header<'a>], names: HeaderNames) -> Option<&'a [u8]> {
    if names.has(HeaderName::ContentType) {
        HeaderName::ContentType.find(headers)
    } else {
        None
    }
}

fn is_form_type(value: &[u8]) -> bool {
    let media = value.split(|b| *b == b';').next().unwrap_or_default();
    media
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}
