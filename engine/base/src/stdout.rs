//! Data on standard output. A closed pipe is not an error: the reader has seen enough.

use std::io::Write;

use serde::Serialize;

/// Writes `text` as it is.
pub fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes one line of JSON, for another program.
pub fn print_json(value: &impl Serialize) {
    // What is printed here consists of strings, numbers, lists and maps, which always have a JSON form.
    if let Ok(mut line) = serde_json::to_vec(value) {
        line.push(b'\n');
        let _ = std::io::stdout().lock().write_all(&line);
    }
}
