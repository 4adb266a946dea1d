//! When packets may be kept for files of them: rules hide nothing in a packet, so it takes a second setting, and a page that nobody else
//! reaches.

use store::token::Token;

use super::settings::{Settings, row};
use crate::diagnostic::{Code, Diagnostic};

/// Refuses to keep packets where that was not allowed.
///
/// # Errors
///
/// `--unmasked` is not given.
pub fn packets(settings: &Settings) -> Result<(), Diagnostic> {
    if settings.keep_packets.is_none() || settings.unmasked {
        return Ok(());
    }
    let what = format!(
        "{} keeps packets as they are, with everything that rules hide in calls",
        row::keep_packets().name
    );
    let allowed = format!(
        "{}=true    allows it, where nothing has to be hidden",
        row::unmasked().name
    );
    let off = format!("without {}    keeps none", row::keep_packets().name);
    Err(Diagnostic::new(Code::E002, what).fix(format!("{allowed}\n{off}")))
}

/// Refuses to keep packets where others than this machine reach the page that has them, or everybody on it.
///
/// # Errors
///
/// As [`packets`], or the page is no place for them.
pub fn packets_of_page(settings: &Settings, token: &Token) -> Result<(), Diagnostic> {
    packets(settings)?;
    let page = settings.ui;
    let reason = if !page.ip().is_loopback() {
        "others than this machine reach it"
    } else if *token == Token::Off {
        "it requires no token"
    } else {
        return Ok(());
    };
    if settings.keep_packets.is_none() {
        return Ok(());
    }
    let what = format!(
        "{} is not possible with the page on {page}, which would show unmasked packets: {reason}",
        row::keep_packets().name
    );
    let here = format!("{}=127.0.0.1:{}", row::ui().name, page.port());
    let fix = match page.ip().is_loopback() {
        true => format!("without {}=off", row::ui_token().name),
        false => here,
    };
    Err(Diagnostic::new(Code::E002, what).fix(fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::ALL_IN_ONE;
    use crate::config::tests::values;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], token: &Token, refused: Option<&str>) {
        let settings = Settings::check(&values(pairs), ALL_IN_ONE).unwrap();
        let result = packets_of_page(&settings, token);
        let what = result.err().map(|problem| problem.what);
        match refused {
            Some(words) => assert!(
                what.as_ref().is_some_and(|what| what.contains(words)),
                "{what:?}"
            ),
            None => assert_eq!(what, None),
        }
    }

    #[test]
    fn packets_are_kept_only_where_nobody_else_can_have_them() {
        const KEEP: (&str, &str) = ("SNIFFER_KEEP_PACKETS", "4M");
        const UNMASKED: (&str, &str) = ("SNIFFER_UNMASKED", "true");
        const OPEN: (&str, &str) = ("SNIFFER_UI", "0.0.0.0:7700");
        let token = Token::Kept("/data".into());
        check(&[OPEN], &token, None);
        check(&[OPEN, UNMASKED], &Token::Off, None);
        check(&[KEEP], &token, Some("everything that rules hide"));
        check(&[KEEP, UNMASKED], &token, None);
        check(
            &[KEEP, UNMASKED, ("SNIFFER_UI", "[::1]:7700")],
            &token,
            None,
        );
        check(
            &[KEEP, UNMASKED, OPEN],
            &token,
            Some("others than this machine"),
        );
        check(&[KEEP, UNMASKED], &Token::Off, Some("no token"));
    }
}
