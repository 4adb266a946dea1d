//! The endpoint of a call: its path with ids as `*`, so that calls of one kind have one name.
//!
//! A user's own templates go first, one on each line: `/v1/orders/*/items/*`, where `*` is any one segment and `**` at the end
//! any rest. Then a segment is an id if it is a number, a UUID, eight or more hexadecimal digits of which one is decimal, or
//! twenty or more letters and digits of which three are decimal. The rules have a version, [`VERSION`]; an endpoint is computed
//! when a call is stored, and stays. The path is always kept beside it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::limits::ENDPOINTS_MAX;

/// Version of the rules that are built in.
pub const VERSION: u32 = 1;

/// What an endpoint past [`ENDPOINTS_MAX`] is called.
pub const OTHER: &str = "…other";

/// Templates, and the endpoints that they have made so far.
#[derive(Debug, Default)]
pub struct Endpoints {
    templates: Vec<Vec<String>>,
    known: Mutex<HashSet<String>>,
}

impl Endpoints {
    /// With the templates of a user's file: one on each line; blank lines and those that begin with `#` count for nothing.
    pub fn new(file: &str) -> Self {
        let lines = file.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            templates: lines
                .map(|line| segments(line).map(str::to_owned).collect())
                .collect(),
            known: Mutex::default(),
        }
    }

    /// The endpoint of a path, whose query and fragment do not count.
    pub fn of(&self, path: &str) -> String {
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let endpoint = self.fold(path.get(..end).unwrap_or_default());
        // Whole between any two of its operations.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&endpoint) {
            if known.len() >= ENDPOINTS_MAX {
                return OTHER.into();
            }
            known.insert(endpoint.clone());
        }
        endpoint
    }

    fn fold(&self, path: &str) -> String {
        if let Some(template) = self.templates.iter().find(|template| fits(template, path)) {
            return format!("/{}", template.join("/"));
        }
        let mut endpoint = String::with_capacity(path.len());
        for (index, segment) in path.split('/').enumerate() {
            if index > 0 {
                endpoint.push('/');
            }
            endpoint.push_str(if is_id(segment) { "*" } else { segment });
        }
        endpoint
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('/').split('/')
}

fn fits(template: &[String], path: &str) -> bool {
    let mut path = segments(path);
    for (index, part) in template.iter().enumerate() {
        if part == "**" && index + 1 == template.len() {
            return true;
        }
        match path.next() {
            Some(segment) if part == "*" || part == segment => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

fn is_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return false;
    }
    let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    digits == bytes.len()
        || (bytes.len() >= 8 && is_hex(bytes))
        || is_uuid(bytes)
        || (bytes.len() >= 20
            && digits >= 3
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| {
            if matches!(index, 8 | 13 | 18 | 23) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(endpoints: &Endpoints, path: &str, expected: &str) {
        assert_eq!(endpoints.of(path), expected, "{path}");
    }

    #[test]
    fn ids_become_asterisks() {
        let built_in = Endpoints::default();
        for (path, expected) in [
            ("/v1/orders/17/items/3", "/v1/orders/*/items/*"),
            ("/v1/users/0503abcd", "/v1/users/*"),
            ("/v1/users/deadbeef", "/v1/users/deadbeef"),
            ("/x/123e4567-e89b-12d3-a456-426614174000/", "/x/*/"),
            ("/f/AAA-bbb_ccc-ddd-123-eee", "/f/*"),
            ("/api/v2/health?at=17#9", "/api/v2/health"),
            ("", ""),
            ("*", "*"),
            ("/", "/"),
        ] {
            check(&built_in, path, expected);
        }
    }

    #[test]
    fn templates_of_the_user_go_first() {
        let own = Endpoints::new("# ours\n\n/shop/*/view\n/files/**\n");
        check(&own, "/shop/red-shoes/view", "/shop/*/view");
        check(&own, "/shop/red-shoes/edit", "/shop/red-shoes/edit");
        check(&own, "/files/a/b/c", "/files/**");
        check(&own, "/orders/7", "/orders/*");
    }

    #[test]
    fn their_number_is_bounded() {
        let endpoints = Endpoints::default();
        for number in 0..ENDPOINTS_MAX {
            let path = format!("/page-{number}-x");
            check(&endpoints, &path, &path);
        }
        check(&endpoints, "/one-more", OTHER);
        check(&endpoints, "/page-7-x", "/page-7-x");
    }
}
