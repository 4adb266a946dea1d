//! Translation of a pattern from the syntax of Go's `regexp` (RE2) to that of another engine.
//!
//! Source: regexp/syntax of Go 1.19; `docs/contract.md`, section 4.7. Rust's `regex` resembles RE2 but differs in details:
//! ASCII classes are spelled out, `{` that opens no count and `[ & ~ -` inside brackets are escaped, `\<` and `\>` become
//! plain characters (they are word boundaries there), octals, hex and `\Q..\E` are spelled out. Refuses what Go refuses
//! and no rule can have meant: two quantifiers in a row, flags other than i, m, s and U, comment groups, unknown escapes.

use std::fmt::Write as _;

/// The syntax of the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Crate `regex`.
    Linear,
    /// Crate `fancy-regex`, which has no `(?-u:\b)`.
    Backtracking,
}

/// A pattern in another dialect.
pub(super) struct Translated {
    pub(super) text: String,
    /// Uses something that only a backtracking engine has.
    pub(super) backtracks: bool,
}

/// Walks the user's text once, left to right.
struct Translator<'a> {
    rest: &'a str,
    out: String,
    dialect: Dialect,
    backtracks: bool,
}

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
/// RE2's `\s`: no vertical tab.
const SPACE: &str = r"\t\n\x0C\r\x20";

/// Writes Go's pattern `text` in another dialect. The error names what Go, and so this language, does not support.
pub(super) fn translate(text: &str, dialect: Dialect) -> Result<Translated, String> {
    let mut this = Translator {
        rest: text,
        out: String::with_capacity(text.len() + 16),
        dialect,
        backtracks: false,
    };
    while let Some(next) = this.next() {
        this.outside(next)?;
    }
    Ok(Translated {
        text: this.out,
        backtracks: this.backtracks,
    })
}

impl<'a> Translator<'a> {
    /// One step outside brackets.
    fn outside(&mut self, next: char) -> Result<(), String> {
        match next {
            '\\' => return self.escape(),
            '[' => return self.class(),
            '(' => return self.group(),
            '*' | '+' | '?' => {
                self.out.push(next);
                return self.after_quantifier();
            }
            '{' => match self.count() {
                Some(count) => {
                    self.out.push('{');
                    self.out.push_str(count);
                    return self.after_quantifier();
                }
                None => self.out.push_str(r"\{"),
            },
            '}' | ']' => self.literal(next),
            _ => self.out.push(next),
        }
        Ok(())
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = self.rest.get(next.len_utf8()..).unwrap_or_default();
        Some(next)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(prefix) else {
            return false;
        };
        self.rest = rest;
        true
    }

    /// Writes `c` as a literal character, outside or inside a class.
    fn literal(&mut self, c: char) {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            self.out.push('\\');
        }
        if c.is_ascii_control() {
            // Writing to a string does not fail.
            let _ = write!(self.out, r"\x{:02X}", u32::from(c));
        } else {
            self.out.push(c);
        }
    }

    /// The rest of a count after its `{`, with its `}`: `n}`, `n,}` or `n,m}`, no leading zeros. Anything else is text.
    fn count(&mut self) -> Option<&'a str> {
        let end = self.rest.find('}')?;
        let inner = self.rest.get(..end)?;
        let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
        let number = |text: &str| {
            text.bytes().all(|b| b.is_ascii_digit())
                && !text.is_empty()
                && (text.len() == 1 || !text.starts_with('0'))
        };
        if !number(least) || !(most.is_empty() || number(most)) {
            return None;
        }
        let (count, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        Some(count)
    }

    /// After a quantifier: `?` makes it lazy, `+` possessive; a second quantifier is an error, as it is in Go (another
    /// engine would accept `a**` with some meaning).
    fn after_quantifier(&mut self) -> Result<(), String> {
        if self.eat("?") {
            self.out.push('?');
        } else if self.eat("+") {
            self.out.push('+');
            self.backtracks = true;
        }
        let rest = self.rest;
        if rest.starts_with(['*', '+', '?']) || (self.eat("{") && self.count().is_some()) {
            return Err("two quantifiers in a row".to_owned());
        }
        self.rest = rest;
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if !self.eat("?") {
            return Ok(());
        }
        self.out.push('?');
        let rest = self.rest;
        let named = rest.starts_with("P<")
            || (rest.starts_with('<') && !rest.starts_with("<=") && !rest.starts_with("<!"));
        if named || rest.starts_with(':') {
            return Ok(());
        }
        if rest.starts_with(['=', '!', '<', '>', '(']) || rest.starts_with("P=") {
            self.backtracks = true;
            return self.special_group();
        }
        let end = rest.find([':', ')']).ok_or("a group is not closed")?;
        let flags = rest.get(..end).unwrap_or_default();
        if let Some(wrong) = flags
            .chars()
            .find(|c| !matches!(c, 'i' | 'm' | 's' | 'U' | '-'))
        {
            return Err(format!(
                "`(?{wrong}` is not known; the flags are i, m, s and U"
            ));
        }
        self.out.push_str(flags);
        self.rest = rest.get(end..).unwrap_or_default();
        Ok(())
    }

    /// Writes the introducer of a look-around or atomic group, so that `(?!` is not parsed as something else.
    fn special_group(&mut self) -> Result<(), String> {
        for sign in ["=", "!", ">", "<=", "<!"] {
            if self.eat(sign) {
                self.out.push_str(sign);
                return Ok(());
            }
        }
        // A conditional group or a named back-reference: its introducer is copied.
        let end = self.rest.find(')').ok_or("a group is not closed")?;
        self.out.push_str(self.rest.get(..=end).unwrap_or_default());
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let Some(next) = self.next() else {
            return Err("it ends with a lone backslash".to_owned());
        };
        match next {
            'Q' => {
                let (text, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                text.chars().for_each(|c| self.literal(c));
            }
            'd' | 'D' | 'w' | 'W' | 's' | 'S' => {
                let (set, negated) = perl_class(next);
                let _ = write!(self.out, "[{}{set}]", if negated { "^" } else { "" });
            }
            'b' | 'B' => self.boundary(next == 'B'),
            '1'..='9' if !self.octal_follows(next) => {
                self.backtracks = true;
                self.out.push('\\');
                self.out.push(next);
            }
            'k' => {
                self.backtracks = true;
                self.out.push_str(r"\k");
            }
            'A' | 'z' => {
                self.out.push('\\');
                self.out.push(next);
            }
            _ => self.character(next)?,
        }
        Ok(())
    }

    /// In Go `\1` is a back-reference (which it refuses), but `\12` is a character in octal.
    fn octal_follows(&self, first: char) -> bool {
        first < '8' && self.rest.starts_with(|c| matches!(c, '0'..='7'))
    }

    fn boundary(&mut self, negated: bool) {
        let text = match (self.dialect, negated) {
            (Dialect::Linear, false) => r"(?-u:\b)",
            (Dialect::Linear, true) => r"(?-u:\B)",
            (Dialect::Backtracking, false) => {
                "(?:(?<=[0-9A-Za-z_])(?![0-9A-Za-z_])|(?<![0-9A-Za-z_])(?=[0-9A-Za-z_]))"
            }
            (Dialect::Backtracking, true) => {
                "(?:(?<=[0-9A-Za-z_])(?=[0-9A-Za-z_])|(?<![0-9A-Za-z_])(?![0-9A-Za-z_]))"
            }
        };
        self.out.push_str(text);
    }

    /// An escape that stands for one character or a Unicode class, outside or inside brackets; `next` is consumed already.
    fn character(&mut self, next: char) -> Result<(), String> {
        match next {
            'a' => self.out.push_str(r"\x07"),
            'f' => self.out.push_str(r"\x0C"),
            'n' => self.out.push_str(r"\n"),
            'r' => self.out.push_str(r"\r"),
            't' => self.out.push_str(r"\t"),
            'v' => self.out.push_str(r"\x0B"),
            'x' => {
                let c = self
                    .hex()
                    .ok_or(r"`\x` needs two hex digits, or any number in braces")?;
                let _ = write!(self.out, r"\x{{{c:X}}}");
            }
            '0'..='7' => {
                let c = self.octal(next);
                let _ = write!(self.out, r"\x{{{c:X}}}");
            }
            'p' | 'P' => self.property(next),
            _ if next.is_ascii() && !next.is_ascii_alphanumeric() => self.literal(next),
            _ => return Err(format!(r"`\{next}` is not an escape")),
        }
        Ok(())
    }

    fn hex(&mut self) -> Option<u32> {
        let rest = self.rest;
        let (digits, after) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}')?,
            None => rest.split_at_checked(2)?,
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = after;
        u32::from_str_radix(digits, 16).ok()
    }

    /// At most two more octal digits.
    fn octal(&mut self, first: char) -> u32 {
        let mut value = first.to_digit(8).unwrap_or_default();
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                break;
            };
            value = value * 8 + digit;
            self.next();
        }
        value
    }

    /// `\pL`, `\p{Greek}`; Go also writes the negation as `\p{^Greek}`.
    fn property(&mut self, sign: char) {
        let negated = self.rest.starts_with("{^");
        let sign = match (sign, negated) {
            ('p', true) => 'P',
            ('P', true) => 'p',
            (sign, _) => sign,
        };
        self.out.push('\\');
        self.out.push(sign);
        if negated {
            self.out.push('{');
            self.rest = self.rest.get(2..).unwrap_or_default();
        }
        let end = if negated || self.rest.starts_with('{') {
            self.rest.find('}').map_or(self.rest.len(), |end| end + 1)
        } else {
            self.rest.chars().next().map_or(0, char::len_utf8)
        };
        self.out.push_str(self.rest.get(..end).unwrap_or_default());
        self.rest = self.rest.get(end..).unwrap_or_default();
    }

    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            // A bracket that comes first is a character.
            if !first && self.eat("]") {
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if self.rest.starts_with("[:")
                && let Some(end) = self.rest.find(":]")
            {
                self.out
                    .push_str(self.rest.get(..end + 2).unwrap_or_default());
                self.rest = self.rest.get(end + 2..).unwrap_or_default();
                continue;
            }
            if self.set()? {
                continue;
            }
            self.class_character()?;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
                self.eat("-");
                self.out.push('-');
                self.class_character()?;
            }
        }
    }

    /// `\d`, `\pL` and similar classes inside brackets.
    fn set(&mut self) -> Result<bool, String> {
        let mut ahead = self.rest.chars();
        if ahead.next() != Some('\\') {
            return Ok(false);
        }
        match ahead.next() {
            Some(name @ ('d' | 'D' | 'w' | 'W' | 's' | 'S')) => {
                let (set, negated) = perl_class(name);
                if negated {
                    let _ = write!(self.out, "[^{set}]");
                } else {
                    self.out.push_str(set);
                }
            }
            Some('p' | 'P') => {
                self.next();
                if let Some(sign) = self.next() {
                    self.property(sign);
                }
                return Ok(true);
            }
            _ => return Ok(false),
        }
        self.rest = ahead.as_str();
        Ok(true)
    }

    fn class_character(&mut self) -> Result<(), String> {
        match self.next() {
            None => Err("a `[` is not closed".to_owned()),
            Some('\\') => match self.next() {
                None => Err("it ends with a lone backslash".to_owned()),
                Some(next @ ('p' | 'P' | '8' | '9')) => {
                    Err(format!(r"`\{next}` cannot stand here in brackets"))
                }
                Some(next @ '1'..='7') if !self.octal_follows(next) => {
                    Err(format!(r"`\{next}` cannot stand in brackets"))
                }
                Some(next) => self.character(next),
            },
            Some(next) => {
                self.literal(next);
                Ok(())
            }
        }
    }
}

/// The members of `\d`, `\w` or `\s` and whether `name` negates them.
fn perl_class(name: char) -> (&'static str, bool) {
    let set = match name.to_ascii_lowercase() {
        'd' => DIGIT,
        'w' => WORD,
        _ => SPACE,
    };
    (set, name.is_ascii_uppercase())
}
