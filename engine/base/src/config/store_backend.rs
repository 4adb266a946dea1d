//! The database behind a store that is no file of its own: its address, and the password for it.

use std::path::PathBuf;

use store::backend::clickhouse::{Address, Password, Target};

use super::setting::Kind;
use super::settings::{Settings, row};
use super::value::{Source, Value};
use crate::diagnostic::{Code, Diagnostic, system_words};

/// The address of a ClickHouse.
pub struct BackendUrl;

impl Kind for BackendUrl {
    type Checked = Address;

    fn check(value: &Value) -> Result<Address, Diagnostic> {
        Address::parse(value.text.trim()).map_err(|error| {
            // The text may have a password.
            let what = format!("{}: {error}", value.name);
            Diagnostic::new(Code::E002, what).fix(format!(
                "{}=clickhouse://sniffer@clickhouse:8123/sniffer",
                row::store_backend().name
            ))
        })
    }

    fn show(checked: &Address) -> String {
        checked.to_string()
    }
}

/// A password, or the file that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendPassword {
    /// This one.
    Text(Password),
    /// The one in this file.
    File(PathBuf),
}

/// A password as it is given.
pub struct PasswordText;

impl Kind for PasswordText {
    type Checked = BackendPassword;

    fn check(value: &Value) -> Result<BackendPassword, Diagnostic> {
        if let Some(path) = value.text.trim().strip_prefix("file://") {
            return Ok(BackendPassword::File(PathBuf::from(path)));
        }
        if value.source == Source::Flag {
            let what = format!("{}: every user sees the command line", value.name);
            let passwords = [row::store_password(), row::store_reader_password()];
            let row = passwords
                .into_iter()
                .find(|row| row.long_flag() == value.name);
            let variable = row.map_or("the setting", |row| row.name);
            return Err(Diagnostic::new(Code::E002, what).fix(format!(
                "{variable}=PASSWORD in the environment\n{} file:///PATH of a file with the password",
                value.name
            )));
        }
        Ok(BackendPassword::Text(Password::new(&value.text)))
    }

    fn show(checked: &BackendPassword) -> String {
        match checked {
            BackendPassword::Text(_) => "(secret)".to_owned(),
            BackendPassword::File(path) => format!("file://{}", path.display()),
        }
    }
}

/// Bytes of a password, and of its file.
const PASSWORD_BYTES_MAX: usize = 4096;

/// The ClickHouse that the settings name; none where the calls are in a file.
///
/// # Errors
///
/// The file of the password cannot be read.
pub fn store_target(settings: &Settings) -> Result<Option<Target>, Diagnostic> {
    let Some(address) = &settings.store_backend else {
        return Ok(None);
    };
    let [of_store, of_reader] = [
        (&settings.store_password, row::store_password().name),
        (
            &settings.store_reader_password,
            row::store_reader_password().name,
        ),
    ]
    .map(|(given, name)| password(given.as_ref(), name));
    Ok(Some(Target {
        address: address.clone(),
        password: of_store?,
        reader_password: of_reader?,
    }))
}

fn password(given: Option<&BackendPassword>, name: &str) -> Result<Password, Diagnostic> {
    let path = match given {
        None => return Ok(Password::default()),
        Some(BackendPassword::Text(password)) => return Ok(password.clone()),
        Some(BackendPassword::File(path)) => path,
    };
    let bad = |reason: &str| {
        let what = format!("{name} file://{}: {reason}", path.display());
        Diagnostic::new(Code::E002, what)
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(&system_words(&error)))?;
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(bad("it is too long for a password"));
    }
    Ok(Password::new(&text))
}

/// The warning of a password, or of calls, that cross a network as plain text.
pub fn plain_backend(settings: &Settings) -> Option<Diagnostic> {
    let address = settings.store_backend.as_ref()?;
    if address.is_encrypted || address.is_loopback() {
        return None;
    }
    let what = format!("{address}: password and calls cross the network as plain text");
    Some(
        Diagnostic::new(Code::W106, what).fix(
            "clickhouses://HOST:8443/DATABASE    with TLS; ?ca=FILE for an authority of your own",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::STORE;
    use crate::config::values::Values;

    fn settings(address: &str) -> Result<Settings, Diagnostic> {
        let mut values = Values::default();
        values.set(row::store_backend(), address);
        Settings::check(&values, STORE)
    }

    #[test]
    fn a_password_is_in_no_message() {
        let error = settings("clickhouse://u:geheim@h/d");
        let error = error.expect_err("a password in the address");
        assert!(!format!("{error:?}").contains("geheim"));
    }

    #[test]
    fn plain_text_beyond_this_host_has_a_warning() {
        for (address, is_warned) in [
            ("clickhouse://127.0.0.1/d", false),
            ("clickhouse://ch.example/d", true),
            ("clickhouses://ch.example/d", false),
        ] {
            let settings = settings(address).expect("an address");
            assert_eq!(plain_backend(&settings).is_some(), is_warned, "{address}");
        }
    }
}
