//! The token of the page: switched off, given, or made once and kept in a file of the data folder.

use std::fmt;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;

use crate::folder::{Folder, Opened};

/// The file of the data folder in which the token is kept.
pub const TOKEN_NAME: &str = "page.token";

/// Bytes of randomness in a token that is made.
const RANDOM_BYTES: usize = 16;

/// Bytes of a token, so that it fits into any head; a longer one is refused.
pub const TOKEN_BYTES_MAX: usize = 512;

/// A token with fewer characters can be found by trying.
pub const TOKEN_BYTES_SAFE: usize = 16;

/// A text that is never shown by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text without the blanks around it, if it can be a token: what `Authorization: Bearer` may carry (`b64token`, RFC 6750
    /// section 2.1). A cookie and the query of a URL may carry it as it is, too.
    pub fn token(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let letters = text.trim_end_matches('=');
        let is_token = !letters.is_empty() && letters.bytes().all(is_valid);
        (is_token && text.len() <= TOKEN_BYTES_MAX).then(|| Self(text.to_owned()))
    }

    /// The text, for a place where it may be seen.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is too short to be safe from being tried.
    pub fn is_short(&self) -> bool {
        self.0.len() < TOKEN_BYTES_SAFE
    }

    /// Compares in constant time: a wrong first character takes as long as a wrong last one.
    pub(crate) fn is(&self, given: &str) -> bool {
        let differences = given
            .bytes()
            .zip(self.0.bytes())
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        given.len() == self.0.len() && differences == 0
    }

    fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("making a token: {error}"))?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where the token of the page comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// None is required: whoever reaches the page may read every call.
    Off,
    /// This one.
    Given(Secret),
    /// The one in [`TOKEN_NAME`] in this folder, which is made at the first start. So links and cookies stay valid.
    Kept(PathBuf),
}

impl Token {
    /// Reads or makes it.
    pub(crate) fn open(&self) -> anyhow::Result<Option<Secret>> {
        match self {
            Self::Off => Ok(None),
            Self::Given(token) => Ok(Some(token.clone())),
            Self::Kept(folder) => {
                let folder = Folder::open(folder)?;
                let opened = folder.file(TOKEN_NAME)?;
                kept(opened).map(Some).context(TOKEN_NAME)
            }
        }
    }
}

/// The token of the file. Another one is made where there is none, where it could be tried or where others could read it.
fn kept(opened: Opened) -> anyhow::Result<Secret> {
    let Opened {
        mut file,
        was_private,
    } = opened;
    let mut text = String::new();
    let most = TOKEN_BYTES_MAX as u64 + 2;
    let is_read = (&mut file).take(most).read_to_string(&mut text).is_ok();
    let found = Secret::token(&text).filter(|found| is_read && was_private && !found.is_short());
    if let Some(found) = found {
        return Ok(found);
    }
    let token = Secret::random()?;
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", token.reveal())?;
    Ok(token)
}

/// The address of the page as people on this host open it, and with the token as a link that opens it.
pub(crate) fn link(page: SocketAddr, token: Option<&Secret>) -> String {
    let query = token.map_or_else(String::new, |token| format!("?token={}", token.reveal()));
    format!("http://{}/{query}", authority(page))
}

pub(crate) fn authority(address: SocketAddr) -> String {
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_loopback() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_a_header_a_cookie_and_a_query_can_carry() {
        for (text, expected) in [
            ("abc", Some("abc")),
            (" a-._~+/b==\n", Some("a-._~+/b==")),
            ("", None),
            ("==", None),
            ("a=b", None),
            ("a b", None),
            ("a;b", None),
            ("a&b", None),
            ("ä", None),
            (&"x".repeat(TOKEN_BYTES_MAX + 1), None),
        ] {
            let token = Secret::token(text);
            assert_eq!(token.as_ref().map(Secret::reveal), expected, "{text:?}");
            assert!(!format!("{token:?}").contains("abc"));
        }
        let token = Secret::token("hunter2").expect("valid");
        assert!(token.is("hunter2") && token.is_short());
        assert!(!token.is("hunter") && !token.is("hunter22") && !token.is(""));
    }

    #[test]
    fn a_token_is_made_once_and_kept_for_its_owner_alone() {
        let home = tempfile::tempdir().expect("folder");
        let folder = home.path().join("data");
        let open = || {
            Token::Kept(folder.clone())
                .open()
                .expect("opens")
                .expect("one")
        };
        let file = folder.join(TOKEN_NAME);
        let first = open();
        assert_eq!(first.reveal().len(), 2 * RANDOM_BYTES);
        assert_eq!(open(), first, "after a restart");
        let mode = |path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));
        // Others may have read it.
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("ours");
        let second = open();
        assert_ne!(second, first);
        assert_eq!(mode(&file), 0o600);
        // One of the user's own.
        fs::write(&file, "correct-horse-battery\n").expect("ours");
        assert_eq!(open().reveal(), "correct-horse-battery");
        for bad in ["short", "two words of text", "\u{fffd}"] {
            fs::write(&file, bad).expect("ours");
            let next = open();
            assert_eq!(next.reveal().len(), 2 * RANDOM_BYTES, "{bad}");
            assert_eq!(open(), next);
        }
        assert_eq!(Token::Off.open().expect("nothing to open"), None);
        assert_eq!(
            Token::Given(first.clone()).open().expect("ours"),
            Some(first)
        );
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().expect("folder");
        let victim = folder.path().join("victim");
        std::os::unix::fs::symlink(&victim, folder.path().join(TOKEN_NAME)).expect("links");
        let token = Token::Kept(folder.path().to_owned());
        assert!(token.open().is_err() && !victim.exists());
    }
}
