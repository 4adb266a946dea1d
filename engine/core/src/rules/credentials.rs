//! Details that are credentials: their names, the set `private` that hides them, and which of them a rule set lets through.
//!
//! The tables are the one source of the set's text, of what `rules check` tries, of the names that a capture warns of, and of
//! the list in the manual (`docs/rules.md`). Names are written with `-` between their words. In params and in bodies, `_`
//! and nothing are as good as `-`, and `.` in params.

use std::sync::LazyLock;

use super::apply::{Findings, Plan, Scratch};
use super::searches::NameWork;
use super::set::RuleSet;
use crate::limits::KEY_BYTES_MAX;

/// Headers, of requests and of responses. `*` is any text.
const HEADERS: &[&str] = &[
    "authorization",
    "*-authorization",
    "authentication-info",
    "*-authentication-info",
    "cookie",
    "cookie2",
    "set-cookie",
    "set-cookie2",
    "token",
    "*-token",
    "*-accesstoken",
    "*-jwt-assertion",
    "api-key",
    "*-api-key",
    "apikey",
    "*-apikey",
    "*-access-key",
    "*-application-key",
    "*-auth-key",
    "*-functions-key",
    "*-license-key",
    "*-master-key",
    "*-secret-key",
    "*-subscription-key",
    "x-rapidapi-key",
    "password",
    "*-password",
    "secret",
    "*-secret",
    "session-id",
    "*-session-id",
    "x-amzn-oidc-*",
    "jenkins-crumb",
    "mcp-param-*",
];

/// Params of the query, fields of forms, and members of JSON.
const FIELDS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "new-password",
    "old-password",
    "current-password",
    "confirm-password",
    "password-confirmation",
    "secret",
    "secrets",
    "secret-key",
    "app-secret",
    "api-secret",
    "client-secret",
    "consumer-secret",
    "webhook-secret",
    "token",
    "access-token",
    "refresh-token",
    "id-token",
    "auth-token",
    "api-token",
    "bearer-token",
    "session-token",
    "security-token",
    "subject-token",
    "actor-token",
    "sas-token",
    "csrf-token",
    "xsrf-token",
    "authenticity-token",
    "jwt",
    "authorization",
    "assertion",
    "client-assertion",
    "saml-response",
    "code-verifier",
    "device-code",
    "otp",
    "totp",
    "one-time-password",
    "recovery-code",
    "credential",
    "credentials",
    "api-key",
    "access-key",
    "access-key-id",
    "secret-access-key",
    "aws-access-key-id",
    "aws-secret-access-key",
    "aws-session-token",
    "account-key",
    "shared-access-key",
    "shared-access-signature",
    "connection-string",
    "subscription-key",
    "encryption-key",
    "signing-key",
    "master-key",
    "private-key",
    "session-id",
];

/// Params only: in bodies these names mean other things as well.
const PARAMS: &[&str] = &[
    "key",
    "hapikey",
    "code",
    "auth",
    "sig",
    "signature",
    "sid",
    "ticket",
    "session",
    "jsessionid",
    "phpsessid",
    "x-amz-*",
    "x-goog-credential",
    "x-goog-signature",
    "google-access-id",
];

/// Headers that hold URLs.
const URLS: &[&str] = &["referer", "location", "content-location", "refresh", "link"];

/// Texts that are credentials wherever they are, with what they are.
const TEXTS: &[(&str, &str)] = &[
    ("access keys of AWS", "(?:AKIA|ASIA)[0-9A-Z]{16}"),
    ("tokens of GitHub", "gh[opsur]_[0-9A-Za-z]{36}"),
    ("tokens of GitHub", "github_pat_[0-9A-Za-z_]{22,}"),
    ("tokens of GitLab", "glpat-[0-9A-Za-z_-]{20,}"),
    ("tokens of Slack", "xox[abeoprs]-[0-9A-Za-z-]{10,}"),
    ("keys of Stripe", "[rs]k_live_[0-9A-Za-z]{16,}"),
    ("keys of Google", "AIza[0-9A-Za-z_-]{35}"),
    ("tokens of Google", r"ya29\.[0-9A-Za-z_-]{20,}"),
    (
        "keys of language models",
        "sk-(?:ant|proj)-[0-9A-Za-z_-]{16,}",
    ),
    (
        "JSON web tokens",
        r"eyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*",
    ),
    ("private keys", "-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*"),
];

/// The set `private`.
pub(super) static PRIVATE: LazyLock<String> = LazyLock::new(|| {
    let (headers, params) = (headers(), params());
    let members: Vec<String> = FIELDS.iter().flat_map(|name| spellings(name)).collect();
    let members = members.join("|");
    let written = joined(FIELDS, |name| name.replace('-', "[-_]?"));
    let texts = joined(TEXTS, |(_, pattern)| (*pattern).to_owned());
    let urls = URLS.join("|");
    [
        format!("/(request|response)_header:({headers})/ remove"),
        "/session_field:.*/ remove".to_owned(),
        format!("/request_param:(?i)({params})/ remove"),
        format!("/(request|response)_header:({urls})/ replace /(?i)([?&;#](?:{params})=)[^&;#\\s\">]*/, /${{1}}xyxy/"),
        format!("/((request|response)_body|request_param:.*)/ replace /{texts}/, /xyxy/"),
        format!("/response_body/ replace /(?i)(\"(?:{written})\"\\s*:\\s*)\"(?:[^\"\\\\]|\\\\.)*\"/, /${{1}}\"xyxy\"/"),
        format!("/request_body:$..({members})/ remove"),
    ]
    .join("\n")
});

fn joined<T>(table: &[T], pattern: impl Fn(&T) -> String) -> String {
    let patterns: Vec<String> = table.iter().map(pattern).collect();
    patterns.join("|")
}

fn headers() -> String {
    joined(HEADERS, |name| name.replace('*', ".*"))
}

fn params() -> String {
    let pattern = |name: &&str| name.replace('-', "[-_.]?").replace('*', ".*");
    joined(FIELDS, pattern) + "|" + &joined(PARAMS, pattern)
}

/// A name as members of JSON have it; they are compared without regard to case.
fn spellings(name: &str) -> Vec<String> {
    let mut spellings: Vec<String> = ["_", "-", ""].map(|mark| name.replace('-', mark)).into();
    spellings.dedup();
    spellings
}

/// What kind of credential a detail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A header, cookies apart.
    Header,
    /// A header with cookies, or a cookie.
    Cookie,
    /// A param of the query or of a form.
    Param,
}

impl Credential {
    /// What the detail `key` is, by its name.
    fn of(key: &str) -> Option<Self> {
        let (kind, name) = key.split_once(':')?;
        let is_param = |pattern: &&str| is_like(pattern.as_bytes(), name.as_bytes(), true);
        let is_header = |pattern: &&str| is_like(pattern.as_bytes(), name.as_bytes(), false);
        if name.len() > KEY_BYTES_MAX {
            return None;
        }
        match kind {
            "session_field" => Some(Self::Cookie),
            "request_param" => {
                let mut patterns = FIELDS.iter().chain(PARAMS);
                patterns.any(is_param).then_some(Self::Param)
            }
            _ if !HEADERS.iter().any(is_header) => None,
            _ if name.contains("cookie") => Some(Self::Cookie),
            _ => Some(Self::Header),
        }
    }
}

/// Whether a name is that of a table: `*` is any text, and `-` may be missing or another separator if it `is_optional`. A regular
/// expression of all names takes megabytes.
fn is_like(pattern: &[u8], name: &[u8], is_optional: bool) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| {
            let behind = name.get(at..).unwrap_or_default();
            is_like(rest, behind, is_optional)
        }),
        ([b'-', rest @ ..], _) if is_optional => {
            let separator = name.split_first().filter(|(byte, _)| b"-_.".contains(byte));
            is_like(rest, name, is_optional)
                || separator.is_some_and(|(_, behind)| is_like(rest, behind, is_optional))
        }
        ([one, rest @ ..], [other, behind @ ..]) => {
            one.eq_ignore_ascii_case(other) && is_like(rest, behind, is_optional)
        }
        _ => false,
    }
}

/// A value that no mask for texts finds.
const SECRET: &str = "example-of-a-secret";

impl RuleSet {
    /// What kind of credential the detail `key` with the plan `plan` is, if its values leave as they are.
    pub fn passes(&self, key: &str, plan: &Plan) -> Option<Credential> {
        if plan.hides_all() {
            return None;
        }
        Credential::of(key).filter(|_| self.shows(plan, SECRET))
    }

    /// Whether the example is still in what the rules leave of `value`.
    fn shows(&self, plan: &Plan, value: &str) -> bool {
        let (mut findings, mut scratch) = (Findings::default(), Scratch::default());
        let left = self.apply(plan, value.as_bytes(), &mut findings, &mut scratch);
        left.is_some_and(|left| String::from_utf8_lossy(left).contains(SECRET))
    }

    /// Examples of credentials that leave as they are under these rules. None do under `include private`.
    pub fn credentials_passed(&self) -> Vec<String> {
        let mut details = Vec::new();
        for name in HEADERS {
            let name = name.replace("*-", "x-").replace('*', "x");
            for kind in ["request", "response"] {
                details.push((format!("{kind}_header:{name}"), SECRET.to_owned()));
            }
        }
        for name in FIELDS.iter().chain(PARAMS) {
            let name = name.replace('*', "x").replace('-', "_");
            details.push((format!("request_param:{name}"), SECRET.to_owned()));
        }
        for name in FIELDS {
            let member = format!(r#"{{"{}":"{SECRET}"}}"#, name.replace('-', "_"));
            for kind in ["request_body", "response_body"] {
                details.push((kind.to_owned(), member.clone()));
            }
        }
        if self.session_rules() > 0 {
            details.push(("session_field:sid".to_owned(), SECRET.to_owned()));
        }
        let (mut passed, mut names) = (Vec::new(), NameWork::default());
        for (key, value) in details {
            let shows = self.shows(&self.plan_within(&key, &mut names), &value);
            names.renew();
            if shows {
                let member = value.split('"').nth(1).filter(|_| value != SECRET);
                passed
                    .push(member.map_or_else(|| key.clone(), |member| format!("{key}:$.{member}")));
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::apply::{Sampler, apply_all};
    use super::*;

    /// The slow twin: the patterns of the set.
    #[test]
    fn names_are_recognised_as_the_set_has_them() {
        let of_set = |text: String| regex::Regex::new(&format!("^(?i:{text})$")).unwrap();
        let (of_headers, of_params) = (of_set(headers()), of_set(params()));
        let tables = [HEADERS, FIELDS, PARAMS].into_iter().flatten();
        for name in tables.chain(&["accept", "keys", "x", "", "-", "a-b", "pass-word", "tokens"]) {
            for text in ["", "x", "x-y", "-"] {
                let name = name.replace('*', text);
                for separator in ["-", "_", ".", "", "--", "-_"] {
                    let name = name.replace('-', separator);
                    for name in [name.clone(), format!("a{name}"), name + "z"] {
                        let param = Credential::of(&format!("request_param:{name}"));
                        assert_eq!(param.is_some(), of_params.is_match(&name), "{name}");
                        let header = Credential::of(&format!("request_header:{name}"));
                        assert_eq!(header.is_some(), of_headers.is_match(&name), "{name}");
                    }
                }
            }
        }
    }

    /// What `include private` leaves of a detail.
    fn left(key: &str, value: &str) -> Option<String> {
        let rules = RuleSet::parse("include debug\ninclude private").unwrap();
        let details = [(key.to_owned(), value.as_bytes().to_vec())];
        let left = apply_all(&rules, &details, &mut Sampler::default())?;
        Some(String::from_utf8(left[0].1.clone()).unwrap())
    }

    #[test]
    fn private_hides_what_the_tables_name() {
        let passed = |rules: &str| RuleSet::parse(rules).unwrap().credentials_passed();
        assert_eq!(
            passed("include debug\ninclude standard\ninclude private"),
            [""; 0]
        );
        assert_eq!(passed("include strict"), [""; 0]);
        let all = 2 * HEADERS.len() + FIELDS.len() + PARAMS.len() + 2 * FIELDS.len();
        assert_eq!(passed("include debug").len(), all + 1);
        let standard = passed("include standard");
        assert!(standard.contains(&"request_header:authorization".to_owned()));
        assert!(!standard.contains(&"request_header:cookie".to_owned()));
    }

    #[test]
    fn private_leaves_the_rest() {
        #[track_caller]
        fn check(key: &str, value: &str, expected: &str) {
            assert_eq!(left(key, value).as_deref(), Some(expected), "{key}");
        }
        for key in [
            "request_header:user-agent",
            "request_header:idempotency-key",
            "request_header:sec-websocket-key",
            "request_header:www-authenticate",
            "request_header:x-request-id",
            "request_param:keyword",
            "request_param:page-token-count",
        ] {
            check(key, "1", "1");
        }
        check(
            "request_body",
            r#"{"key":"a","code":7,"tokens":3}"#,
            r#"{"key":"a","code":7,"tokens":3}"#,
        );
        check(
            "response_body",
            "<html>key, token</html>",
            "<html>key, token</html>",
        );
        check(
            "request_body",
            r#"{"a":{"apiKey":"k","b":[{"Client-Secret":"s","c":1}]}}"#,
            r#"{"a":{"b":[{"c":1}]}}"#,
        );
        check(
            "request_body",
            "grant_type=password&username=u&password=p",
            "grant_type=password&username=u",
        );
        check(
            "response_body",
            r#"{"access_token" : "a\"b","expires_in":3600}"#,
            r#"{"access_token" : "xyxy","expires_in":3600}"#,
        );
        check("response_body", "id AKIAIOSFODNN7EXAMPLE.", "id xyxy.");
        check(
            "request_header:referer",
            "https://h/x?a=1&access_token=t&b=2#key=z",
            "https://h/x?a=1&access_token=xyxy&b=2#key=xyxy",
        );
        assert_eq!(left("request_param:X-Amz-Signature", "1"), None);
        assert_eq!(left("request_param:apiKey", "1"), None);
        assert_eq!(left("request_header:mcp-param-region", "1"), None);
        assert_eq!(left("session_field:sid", "1"), None);
    }

    #[test]
    fn names_are_known_as_the_set_has_them() {
        #[track_caller]
        fn check(key: &str, expected: Option<Credential>) {
            assert_eq!(Credential::of(key), expected, "{key}");
        }
        check("request_header:x-api-key", Some(Credential::Header));
        check("response_header:set-cookie", Some(Credential::Cookie));
        check("session_field:a", Some(Credential::Cookie));
        check("request_param:accessToken", Some(Credential::Param));
        check("request_param:keyword", None);
        check("request_header:accept", None);
        check("request_body", None);
    }

    /// The lists in the manual are those of the tables.
    #[test]
    fn the_manual_has_the_lists() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let list = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        };
        let mut expected = String::new();
        let _ = writeln!(
            expected,
            "- headers, of requests and responses: {}",
            list(HEADERS)
        );
        let _ = writeln!(
            expected,
            "- params, form fields and members of JSON: {}",
            list(FIELDS)
        );
        let _ = writeln!(expected, "- params alone: {}", list(PARAMS));
        let _ = writeln!(
            expected,
            "- headers with URLs, of which these params are hidden: {}",
            list(URLS)
        );
        for (what, pattern) in TEXTS {
            let _ = writeln!(expected, "- {what}: `{pattern}`");
        }
        let (start, end) = (
            "<!-- Written from rules/credentials.rs. -->\n\n",
            "\n<!-- End of the credentials. -->",
        );
        let (before, rest) = manual.split_once(start).unwrap();
        let (lists, after) = rest.split_once(end).unwrap();
        if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
            std::fs::write(path, [before, start, &expected, end, after].concat()).unwrap();
        } else {
            assert_eq!(lists, expected, "UPDATE_DOCUMENTS=1 writes them");
        }
    }
}
