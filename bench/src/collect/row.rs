//! A row: the details of one received line.

/// The details of one line, in their order.
pub type Row = Vec<(String, String)>;

/// The first value of `key` in `row`.
pub fn value<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    row.iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}
