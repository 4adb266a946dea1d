//! The tokens of the store as they were given, that of the page and that of POSTs: a text, a file, or none at all.

use std::path::PathBuf;

use store::token::{Secret, TOKEN_BYTES_MAX, Token};

use super::setting::Kind;
use super::settings::{Settings, row};
use super::value::{Source, Value};
use crate::diagnostic::{Code, Diagnostic, system_words};

/// What the page requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageToken {
    /// A token that is made once and kept in the data folder.
    Kept,
    /// None.
    Off,
    /// This one.
    Text(Secret),
    /// The one in this file.
    File(PathBuf),
}

impl PageToken {
    /// Whether the user gave it, who has it from there.
    pub fn is_given(&self) -> bool {
        matches!(self, Self::Text(_) | Self::File(_))
    }
}

/// A token, `off`, or a file that has one.
pub struct TokenText;

impl Kind for TokenText {
    type Checked = PageToken;

    fn check(value: &Value) -> Result<PageToken, Diagnostic> {
        let text = value.text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(PageToken::Off);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(PageToken::File(PathBuf::from(path)));
        }
        if value.source == Source::Flag {
            let what = format!("{}: every user sees the command line", value.written());
            let rows = [row::ui_token(), row::store_token()];
            let given = rows.iter().find(|row| row.long_flag() == value.name);
            let variable = given.map_or("", |row| row.name);
            return Err(Diagnostic::new(Code::E002, what).fix(format!(
                "{variable}=TOKEN in the environment\n{} file:///PATH of a file with the token",
                value.name
            )));
        }
        let token = Secret::token(text).ok_or_else(|| value.expected(EXPECTED))?;
        Ok(PageToken::Text(token))
    }

    fn show(checked: &PageToken) -> String {
        match checked {
            PageToken::Kept => "kept".to_owned(),
            PageToken::Off => "off".to_owned(),
            PageToken::Text(_) => "(secret)".to_owned(),
            PageToken::File(path) => format!("file://{}", path.display()),
        }
    }
}

/// What a token consists of (RFC 6750 section 2.1).
const EXPECTED: &str = "letters, digits and -._~+/=, or off, or file:///PATH";

/// The token of the page.
///
/// # Errors
///
/// Its file cannot be read, or holds none.
pub fn page_token(settings: &Settings) -> Result<Token, Diagnostic> {
    Ok(match &settings.ui_token {
        PageToken::Kept => Token::Kept(settings.data.clone()),
        given => read(given, row::ui_token().name)?.map_or(Token::Off, Token::Given),
    })
}

/// The token of POSTs to the store; none where everybody may post.
///
/// # Errors
///
/// As [`page_token`].
pub fn post_token(settings: &Settings) -> Result<Option<Secret>, Diagnostic> {
    read(&settings.store_token, row::store_token().name)
}

fn read(given: &PageToken, name: &str) -> Result<Option<Secret>, Diagnostic> {
    let path = match given {
        PageToken::Kept | PageToken::Off => return Ok(None),
        PageToken::Text(token) => return Ok(Some(token.clone())),
        PageToken::File(path) => path,
    };
    let bad = |reason: &str| {
        let what = format!("{name} file://{}: {reason}", path.display());
        Diagnostic::new(Code::E002, what).fix(format!(
            "(umask 077; openssl rand -hex 16 > {})",
            path.display()
        ))
    };
    let text = std::fs::read(path).map_err(|error| bad(&system_words(&error)))?;
    let text = text.get(..2 * TOKEN_BYTES_MAX).unwrap_or(&text);
    let token = std::str::from_utf8(text).ok().and_then(Secret::token);
    token
        .map(Some)
        .ok_or_else(|| bad("no token in it, which has letters, digits and -._~+/="))
}

/// The warning of a token of POSTs that strangers may learn.
pub fn open_posts(settings: &Settings, token: Option<&Secret>) -> Option<Diagnostic> {
    let token = token?;
    let store = settings.store;
    if token.is_short() {
        let what = format!("the token of POSTs to {store} is short enough to be found by trying");
        return Some(Diagnostic::new(Code::W107, what).fix("openssl rand -hex 16"));
    }
    if store.ip().is_loopback() {
        return None;
    }
    let what = format!(
        "the store takes its token over plain HTTP on {store}: whoever sees a packet has it"
    );
    let fix = format!(
        "{}=127.0.0.1:{} behind a proxy that ends TLS",
        row::store().name,
        store.port()
    );
    Some(Diagnostic::new(Code::W107, what).fix(fix))
}

/// The warning of a page that strangers may open.
pub fn open_page(settings: &Settings, token: &Token) -> Option<Diagnostic> {
    let page = settings.ui;
    let what = match token {
        Token::Off if page.ip().is_loopback() => format!(
            "the page on {page} requires no token: every user and container that reaches the loopback of this host reads all calls"
        ),
        Token::Off => {
            format!("the page on {page} requires no token: whoever reaches it reads all calls")
        }
        Token::Given(token) if token.is_short() => {
            format!("the token of the page on {page} is short enough to be found by trying")
        }
        Token::Given(_) | Token::Kept(_) => return None,
    };
    let fix = format!(
        "without {} a token is made and kept; `sniffer page` prints the link",
        row::ui_token().name
    );
    Some(Diagnostic::new(Code::W106, what).fix(fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::STORE;
    use crate::config::tests::values;

    fn settings(text: &str) -> Result<Settings, Diagnostic> {
        Settings::check(&values(&[("SNIFFER_UI_TOKEN", text)]), STORE)
    }

    fn token(text: &str) -> Result<Token, Diagnostic> {
        page_token(&settings(text)?)
    }

    #[test]
    fn a_token_comes_from_the_text_or_from_a_file() {
        let expected = Token::Given(Secret::token("hunter2").unwrap());
        assert_eq!(token("hunter2").unwrap(), expected);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let path = format!("file://{}", file.path().display());
        assert_eq!(token(&path).unwrap(), expected);
        assert_eq!(token("OFF").unwrap(), Token::Off);
        assert!(matches!(token("").unwrap(), Token::Kept(_)));
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2 hunter2").unwrap();
        let in_file = format!("file://{}", file.path().display());
        for text in ["hunter2 x", "hunter2;", &in_file, "file:///nowhere/token"] {
            let problem = token(text).unwrap_err();
            assert_eq!(problem.code, Code::E002);
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn a_flag_takes_no_token_since_everybody_sees_it() {
        let flag = |text: &str| {
            let mut values = values(&[]);
            values.set(row::ui_token(), text);
            Settings::check(&values, STORE).map(|settings| settings.ui_token)
        };
        let problem = flag("hunter2").unwrap_err();
        let shown = problem.to_string();
        assert!(
            shown.contains("SNIFFER_UI_TOKEN=TOKEN") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert_eq!(flag("off").unwrap(), PageToken::Off);
        assert!(flag("file:///etc/token").unwrap().is_given());
    }

    #[test]
    fn a_page_that_strangers_may_open_is_reported() {
        let warns = |text: &str| {
            let settings = settings(text).unwrap();
            open_page(&settings, &page_token(&settings).unwrap()).is_some()
        };
        assert!(warns("off") && warns("short"));
        assert!(!warns("") && !warns("correct-horse-battery"));
    }

    #[test]
    fn a_token_of_posts_that_strangers_may_learn_is_reported() {
        let warns = |token: &str, store: &str| {
            let given = [("SNIFFER_STORE_TOKEN", token), ("SNIFFER_STORE", store)];
            let settings = Settings::check(&values(&given), STORE).unwrap();
            let token = post_token(&settings).unwrap();
            open_posts(&settings, token.as_ref()).is_some()
        };
        assert!(!warns("", ":7701") && !warns("off", ":7701"));
        assert!(warns("correct-horse-battery", ":7701"));
        assert!(warns("short", "127.0.0.1:7701"));
        assert!(!warns("correct-horse-battery", "127.0.0.1:7701"));
    }
}
