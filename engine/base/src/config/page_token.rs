//! The token of the page as it was given: a text, a file, or none at all.

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
            return Err(Diagnostic::new(Code::E002, what).fix(format!(
                "{}=TOKEN in the environment\n{} file:///PATH of a file with the token",
                row::ui_token().name,
                row::ui_token().long_flag()
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

/// The token that the settings name.
///
/// # Errors
///
/// Its file cannot be read, or holds none.
pub fn page_token(settings: &Settings) -> Result<Token, Diagnostic> {
    let path = match &settings.ui_token {
        PageToken::Kept => return Ok(Token::Kept(settings.data.clone())),
        PageToken::Off => return Ok(Token::Off),
        PageToken::Text(token) => return Ok(Token::Given(token.clone())),
        PageToken::File(path) => path,
    };
    let bad = |reason: &str| {
        let what = format!(
            "{} file://{}: {reason}",
            row::ui_token().name,
            path.display()
        );
        Diagnostic::new(Code::E002, what).fix(format!(
            "(umask 077; openssl rand -hex 16 > {})",
            path.display()
        ))
    };
    let text = std::fs::read(path).map_err(|error| bad(&system_words(&error)))?;
    let text = text.get(..2 * TOKEN_BYTES_MAX).unwrap_or(&text);
    let token = std::str::from_utf8(text).ok().and_then(Secret::token);
    token
        .map(Token::Given)
        .ok_or_else(|| bad("no token in it, which has letters, digits and -._~+/="))
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
}
