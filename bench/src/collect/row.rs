//! A line as it was received.

/// One line: details in the order in which they came.
pub type Row = Vec<(String, String)>;

/// The first value of `key` in `row`.
pub fn value<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    row.iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}
