//! Paths to values inside a body, as a scope has them: `request_body:$.card.number`.
//!
//! An extension to the language of the contract (manual: `docs/rules.md`). It takes nothing away from that language: as an
//! expression such a scope requires text after the end of the key, so it could never match a detail.
//!
//! ```text
//! SCOPE = BODY ":$" STEP+          BODY = request_body | response_body | (request|response)_body
//! STEP  = ("." | "..") (NAME | "(" NAME ("|" NAME)* ")" | "*") | [".."] "[" (NUMBER | "*" | "'" any "'") "]"
//! ```
//!
//! `..` is any depth. Names are compared without regard to case, and lists are transparent: a name after a list is looked
//! up in each of its elements. Both hide more rather than less.

use super::names::folded;
use crate::limits::PATH_STEPS_MAX;

/// Scopes that a path may stand behind.
const BODIES: [&str; 4] = [
    "request_body",
    "response_body",
    "(request|response)_body",
    "(response|request)_body",
];

/// Where in a body a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Any number of levels may lie before it.
    deep: bool,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// A member or field, lower-case.
    Name(Box<str>),
    /// One of several, in order.
    OneOf(Box<[Box<str>]>),
    /// Any member, field or element.
    Any,
    Element(usize),
    AnyElement,
}

/// What a value is in the value around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child<'a> {
    /// Its name, lower-case.
    Member(&'a str),
    Element(usize),
}

/// How many steps of a path lead to a value: a set of numbers, since `..` leads there in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached(u64);

const _: () = assert!(PATH_STEPS_MAX < u64::BITS as usize);

impl Reached {
    pub(super) const NOTHING: Self = Self(0);
    /// The outermost value.
    pub(super) const START: Self = Self(1);

    /// How many ways lead there.
    pub(super) fn ways(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Path {
    /// Whether one of its names is a number, as fields of protobuf have without a schema.
    pub(super) fn has_number(&self) -> bool {
        let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        self.steps.iter().any(|step| match &step.at {
            At::Name(name) => is_number(name),
            At::OneOf(names) => names.iter().any(|name| is_number(name)),
            At::Any | At::Element(_) | At::AnyElement => false,
        })
    }
}

/// Splits a scope into the pattern of its body and its path; none when it is a plain scope. An error is what is wrong with
/// a text that is meant as a path, and where in it.
pub(super) fn split(scope: &str) -> Result<Option<(&str, Path)>, (usize, String)> {
    let Some((body, text)) = scope.split_once(":$") else {
        return Ok(None);
    };
    if !text.starts_with(['.', '[']) {
        return Ok(None);
    }
    let offset = body.len() + 2;
    let body = body.strip_prefix('^').unwrap_or(body);
    let path = Path::read(text.strip_suffix('$').unwrap_or(text));
    match (BODIES.contains(&body), path) {
        (true, Ok(path)) => Ok(Some((body, path))),
        (true, Err((at, why))) => Err((offset + at, why)),
        // No path: with a `|` it may well be an expression that matches something.
        (false, Err(_)) => Ok(None),
        (false, Ok(_)) => {
            let why = format!("a path stands behind one of {}", BODIES[..3].join(", "));
            Err((0, why))
        }
    }
}

impl Path {
    fn read(text: &str) -> Result<Self, (usize, String)> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let (step, left) = step(rest).map_err(|why| (at, why.to_owned()))?;
            steps.push(step);
            rest = left;
        }
        if steps.len() > PATH_STEPS_MAX {
            return Err((0, format!("a path has at most {PATH_STEPS_MAX} steps")));
        }
        Ok(Self {
            steps: steps.into(),
        })
    }

    /// Nothing, unless the path leads to this value.
    pub(super) fn done(&self, reached: Reached) -> Reached {
        Reached(reached.0 & 1 << self.steps.len())
    }

    /// Whether the next step may lead to an element of a list.
    pub(super) fn reaches_elements(&self, reached: Reached) -> bool {
        (0..self.steps.len()).any(|progress| {
            let later = self.steps.get(progress..).unwrap_or_default();
            let is_deep = later.first().is_some_and(|step| step.deep);
            let here = if is_deep {
                later
            } else {
                later.get(..1).unwrap_or_default()
            };
            reached.0 >> progress & 1 == 1
                && here
                    .iter()
                    .any(|step| !matches!(step.at, At::Name(_) | At::OneOf(_)))
        })
    }

    /// Whether one of its steps is a name.
    pub(super) fn has_name(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.at, At::Name(_) | At::OneOf(_)))
    }

    /// From a value to one inside it: adds to `inside` what is reached there.
    pub(super) fn step(&self, reached: Reached, child: Child<'_>, inside: &mut Reached) {
        let mut left = reached.0;
        while left != 0 {
            let progress = left.trailing_zeros() as usize;
            left &= left - 1;
            let Some(step) = self.steps.get(progress) else {
                continue;
            };
            let (is_there, looks_through) = match (&step.at, child) {
                (At::Name(wanted), Child::Member(name)) => (**wanted == *name, false),
                (At::OneOf(names), Child::Member(name)) => {
                    let found = names.binary_search_by(|wanted| (**wanted).cmp(name));
                    (found.is_ok(), false)
                }
                (At::Name(_) | At::OneOf(_), Child::Element(_)) => (false, true),
                (At::Any, Child::Member(_)) => (true, false),
                (At::Any, Child::Element(_)) => (true, true),
                (At::Element(wanted), Child::Element(index)) => (*wanted == index, false),
                (At::AnyElement, Child::Element(_)) => (true, false),
                (At::Element(_) | At::AnyElement, Child::Member(_)) => (false, false),
            };
            inside.0 |= u64::from(is_there) << (progress + 1);
            inside.0 |= u64::from(step.deep || looks_through) << progress;
        }
    }
}

/// The step that `text` begins with, and what stands behind it.
fn step(text: &str) -> Result<(Step, &str), &'static str> {
    let (deep, rest) = match (text.strip_prefix(".."), text.strip_prefix('.')) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) if text.starts_with('[') => (false, text),
        (None, None) => return Err("a path goes on with `.NAME`, `..NAME` or `[`"),
    };
    let (at, rest) = if let Some(rest) = rest.strip_prefix('*') {
        (At::Any, rest)
    } else if let Some(inside) = rest
        .strip_prefix('[')
        .filter(|_| deep || text.starts_with('['))
    {
        bracket(inside)?
    } else if let Some(inside) = rest.strip_prefix('(') {
        one_of(inside)?
    } else {
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at_checked(end).unwrap_or_default();
        if name.is_empty() {
            return Err("a name is missing here; one with other signs is written ['a.b']");
        }
        (At::Name(folded(name).into()), rest)
    };
    Ok((Step { deep, at }, rest))
}

/// What stands in brackets, the opening one taken off.
fn bracket(text: &str) -> Result<(At, &str), &'static str> {
    const UNCLOSED: &str = "brackets hold *, a number, or a name in quotes, and are closed";
    if let Some(rest) = text.strip_prefix("*]") {
        return Ok((At::AnyElement, rest));
    }
    for quote in ['\'', '"'] {
        if let Some(inside) = text.strip_prefix(quote) {
            let (name, rest) = inside.split_once(quote).ok_or(UNCLOSED)?;
            let rest = rest.strip_prefix(']').ok_or(UNCLOSED)?;
            return Ok((At::Name(folded(name).into()), rest));
        }
    }
    let (digits, rest) = text.split_once(']').ok_or(UNCLOSED)?;
    let index = digits.parse().map_err(|_| UNCLOSED)?;
    Ok((At::Element(index), rest))
}

/// What stands in parentheses, the opening one taken off.
fn one_of(text: &str) -> Result<(At, &str), &'static str> {
    let (inside, rest) = text
        .split_once(')')
        .ok_or("parentheses hold names with | between them, and are closed")?;
    let mut names = Vec::new();
    for name in inside.split('|') {
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("parentheses hold names with | between them");
        }
        names.push(folded(name).into());
    }
    names.sort_unstable();
    Ok((At::OneOf(names.into()), rest))
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scope: &str, expected: Result<Option<&str>, usize>) {
        let result = split(scope);
        let seen = match &result {
            Ok(found) => Ok(found.as_ref().map(|(body, _)| *body)),
            Err((at, _)) => Err(*at),
        };
        assert_eq!(seen, expected, "{result:?}");
    }

    #[test]
    fn only_paths_are_paths() {
        check("request_body", Ok(None));
        check("request_body:$", Ok(None));
        check("request_header:$|x", Ok(None));
        check("x:$.a|b", Ok(None));
        check("request_body:$.a", Ok(Some("request_body")));
        check(
            "^response_body:$..b[*]['c.d'][0].*$",
            Ok(Some("response_body")),
        );
        check(
            "(request|response)_body:$..['Ä']",
            Ok(Some("(request|response)_body")),
        );
        check("request_body:$..(a|B-c).d", Ok(Some("request_body")));
        check("request_body:$.(a|", Err(14));
        check("request_body:$.(a|.b)", Err(14));
        check("request_body:$.a|b", Err(16));
        check("request_body:$.", Err(14));
        check("request_body:$[a]", Err(14));
        check("request_body:$.a[1", Err(16));
        check("request_header:x:$.a", Err(0));
        check(".*:$.a", Err(0));
    }

    #[test]
    fn steps_go_through_lists_and_depths() {
        #[track_caller]
        fn check(path: &str, way: &[Child<'_>], expected: bool) {
            let path = Path::read(path).unwrap();
            let mut now = Reached::START;
            for child in way {
                let mut inside = Reached::NOTHING;
                path.step(now, *child, &mut inside);
                now = inside;
            }
            assert_eq!(path.done(now) != Reached::NOTHING, expected);
        }
        use Child::{Element, Member};
        check(".a", &[Member("a")], true);
        check(".A", &[Member("a")], true);
        check(
            "..(c|a|B).d",
            &[Member("x"), Member("b"), Element(1), Member("d")],
            true,
        );
        check("..(c|a|B).d", &[Member("d"), Member("d")], false);
        check(".a", &[Member("b")], false);
        check(".a", &[Member("b"), Member("a")], false);
        check("..a", &[Member("b"), Element(3), Member("a")], true);
        check(
            ".a.b",
            &[Element(1), Member("a"), Element(0), Element(2), Member("b")],
            true,
        );
        check(".a[1]", &[Member("a"), Element(1)], true);
        check(".a[1]", &[Member("a"), Element(0)], false);
        check(".a[*].b", &[Member("a"), Element(0), Member("b")], true);
        check(".a[*]", &[Member("a"), Member("b")], false);
        check(".a.*", &[Member("a"), Element(7)], true);
        check("..*", &[Member("a"), Member("b"), Element(7)], true);
        check("..[0]", &[Member("a"), Element(0)], true);
        check("['x y'].b", &[Member("x y"), Member("b")], true);
    }
}
