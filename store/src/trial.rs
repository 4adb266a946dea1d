//! `POST /api/v1/rules/test`: what rules would do to calls that are stored.
//!
//! `{"rules": "...", "filter": "...", "from": "...", "to": "..."}` tries the rules on the newest [`TRIAL_CALLS`] calls that match. A stored
//! call is one after the rules that were in force, so nothing appears here that these have hidden. Nothing is changed.
//!
//! The language of the rules is that of the engine, which the program passes in ([`crate::rules`]); the text names no file.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};

use crate::api::{Answer, Api, ApiError, fresh};
use crate::backend::{Backend, Failure};
use crate::call::{Call, CallId, Query};
use crate::filter::Filter;
use crate::limits::{
    TRIAL_BYTES_MAX, TRIAL_CALLS, TRIAL_CHANGES_MAX, TRIAL_RULES_BYTES_MAX, TRIAL_TIME_MAX,
    TRIAL_VALUE_CHARS_MAX,
};
use crate::parameters::{Time, range};
use crate::rules::{Outcome, Rules, RulesError, Tried, TriedRule};

/// Characters that are shown before the first difference of two values.
const CONTEXT_CHARS: usize = 40;

/// A request.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    rules: String,
    filter: String,
    from: Option<Time>,
    to: Option<Time>,
}

/// Its answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answered {
    /// Calls that were tried.
    tested: usize,
    /// Those that would be others, or would not be sent.
    calls: Vec<CallShown>,
    rules: Vec<TriedRule>,
    /// Why not all were tried.
    partial: Option<String>,
}

#[derive(Debug, Serialize)]
struct CallShown {
    id: CallId,
    method: String,
    host: String,
    path: String,
    url: String,
    status: Option<i64>,
    outcome: Outcome,
    changes: Vec<Change>,
    /// Changes that are not listed.
    more: usize,
}

/// A detail that would be another one.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    key: String,
    /// The part of the stored value around the first difference.
    before: String,
    /// That of what would be left; null where nothing would be.
    after: Option<String>,
}

pub(crate) async fn test(
    State(api): State<Api>,
    request: Result<Json<Request>, JsonRejection>,
) -> Answer<Answered> {
    let Json(request) = request?;
    let Some(rules) = api.rules.clone() else {
        let text = "this store has no rules to try";
        return Err(ApiError::Parameter(text.into()));
    };
    if request.rules.len() > TRIAL_RULES_BYTES_MAX {
        let text = format!("rules: a text has at most {TRIAL_RULES_BYTES_MAX} bytes");
        return Err(ApiError::Parameter(text));
    }
    if request.rules.trim().is_empty() {
        return Err(ApiError::Parameter("rules: there are none".into()));
    }
    let list = Query {
        filter: Filter::parse(&request.filter)?,
        before: None,
        after: None,
        range: range(request.from, request.to),
        limit: TRIAL_CALLS,
    };
    let busy = |_| ApiError::Busy("another query is being answered".into());
    let _permit = api.queries.clone().try_acquire_owned().map_err(busy)?;
    let end = Instant::now() + TRIAL_TIME_MAX;
    let (calls, mut partial) = fetch(&api, list, end).await?;
    let text = request.rules;
    let run = tokio::task::spawn_blocking(move || run(&*rules, &text, &calls, end));
    let ran = run
        .await
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let ran = ran.map_err(ApiError::Rules)?;
    partial = partial.or(ran.partial);
    fresh(Answered { partial, ..ran })
}

/// The newest calls of a list with their details, as far as bytes and time permit, and why they are not all.
async fn fetch(
    api: &Api,
    list: Query,
    end: Instant,
) -> Result<(Vec<Call>, Option<String>), ApiError> {
    let page = api.backend.list(list).await?;
    let mut partial = page.coverage.partial;
    let mut calls = Vec::new();
    let mut bytes = 0;
    for summary in page.calls {
        if bytes >= TRIAL_BYTES_MAX {
            partial = Some(format!(
                "their lines have more than {TRIAL_BYTES_MAX} bytes"
            ));
            break;
        }
        // The other half is for the rules.
        if Instant::now() + TRIAL_TIME_MAX / 2 >= end {
            partial = Some("to read them takes too long".into());
            break;
        }
        // One that is deleted meanwhile is left out.
        if let Some(call) = api.backend.call(summary.id).await? {
            bytes += call.line.len();
            calls.push(call);
        }
    }
    Ok((calls, partial))
}

fn run(
    rules: &dyn Rules,
    text: &str,
    calls: &[Call],
    end: Instant,
) -> Result<Answered, RulesError> {
    let mut trial = rules.parse(text)?;
    let mut answered = Answered {
        tested: 0,
        calls: Vec::new(),
        rules: Vec::new(),
        partial: None,
    };
    for call in calls {
        if Instant::now() >= end {
            answered.partial = Some("to try them takes too long".into());
            break;
        }
        answered.tested += 1;
        let tried = trial.apply(&call.details);
        let (changes, more) = changes(call, &tried);
        if tried.outcome == Outcome::Kept && changes.is_empty() {
            continue;
        }
        let summary = &call.summary;
        answered.calls.push(CallShown {
            id: summary.id.clone(),
            method: summary.method.clone(),
            host: summary.host.clone(),
            path: summary.path.clone(),
            url: summary.url.clone(),
            status: summary.status,
            outcome: tried.outcome,
            changes,
            more,
        });
    }
    answered.rules = trial.rules();
    Ok(answered)
}

/// The details that would be others, and how many more there are. A call that would not be sent has none.
fn changes(call: &Call, tried: &Tried) -> (Vec<Change>, usize) {
    if tried.outcome != Outcome::Kept {
        return (Vec::new(), 0);
    }
    let pairs = call.details.iter().zip(&tried.left);
    let changed = pairs.filter(|((_, before), after)| after.as_ref() != Some(before));
    let mut more = 0;
    let mut listed = Vec::new();
    for ((key, before), after) in changed {
        // Details with an empty value are always left out.
        if before.is_empty() {
            continue;
        }
        if listed.len() == TRIAL_CHANGES_MAX {
            more += 1;
            continue;
        }
        let same = after.as_ref().map_or(0, |after| {
            let pairs = before.chars().zip(after.chars());
            pairs.take_while(|(before, after)| before == after).count()
        });
        listed.push(Change {
            key: excerpt(key, 0),
            before: excerpt(before, same),
            after: after.as_ref().map(|after| excerpt(after, same)),
        });
    }
    (listed, more)
}

/// The part of a value around a difference.
fn excerpt(value: &str, difference: usize) -> String {
    let skipped = difference.saturating_sub(CONTEXT_CHARS);
    let mut rest = value.chars().skip(skipped);
    let mut text = String::new();
    if skipped > 0 {
        text.push('…');
    }
    text.extend(rest.by_ref().take(TRIAL_VALUE_CHARS_MAX));
    if rest.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, difference: usize, expected: &str) {
        assert_eq!(excerpt(value, difference), expected);
    }

    #[test]
    fn an_excerpt_has_the_difference() {
        check("short", 2, "short");
        check("", 0, "");
        let long = format!("{}secret{}", "x".repeat(500), "y".repeat(500));
        let shown = excerpt(&long, 500);
        assert!(shown.starts_with('…') && shown.ends_with('…'), "{shown}");
        assert!(shown.contains("xsecrety"), "{shown}");
        assert_eq!(shown.chars().count(), TRIAL_VALUE_CHARS_MAX + 2);
    }
}
