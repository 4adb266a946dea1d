//! What a certificate says of itself, as far as messages and self-signed certificates need it: issuer, subject, dates, names.
//!
//! Source: RFC 5280 section 4.1, in DER (X.690). Only the fields that are needed are looked at; a certificate that is not
//! read here is no error, since webpki judges all that were issued by an authority.

/// The fields of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    /// Seconds since 1970 from which it is valid.
    pub(super) not_before: i64,
    /// Seconds since 1970 until which it is valid.
    pub(super) not_after: i64,
    /// Whether it lists the names that it is for; else its subject has the name.
    pub(super) has_names: bool,
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, the version.
const VERSION: u8 = 0xa0;
/// `[3]`, the extensions.
const EXTENSIONS: u8 = 0xa3;

/// id-at-commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// id-ce-subjectAltName.
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl<'a> Certificate<'a> {
    /// Reads a certificate; nothing if it has another form.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let certificate = Elements(der).expect(SEQUENCE)?;
        let mut fields = Elements(Elements(certificate).expect(SEQUENCE)?);
        if fields.0.first() == Some(&VERSION) {
            fields.next()?;
        }
        let _serial = fields.next()?;
        let _algorithm = fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?;
        let mut dates = Elements(fields.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(dates.next()?)?, time(dates.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        let extensions = fields.find(|(tag, _)| *tag == EXTENSIONS);
        let extensions = extensions.and_then(|(_, list)| Elements(list).expect(SEQUENCE));
        let mut extensions = Elements(extensions.unwrap_or_default());
        let is_names = |(_, extension): (u8, &[u8])| {
            Elements(extension).expect(OBJECT_IDENTIFIER) == Some(SUBJECT_ALTERNATIVE_NAME)
        };
        Some(Self {
            issuer,
            subject,
            not_before,
            not_after,
            has_names: extensions.any(is_names),
        })
    }

    /// Whether its issuer is its subject.
    pub(super) fn is_self_signed(&self) -> bool {
        self.issuer == self.subject
    }

    /// The common name of its issuer.
    pub(super) fn issuer(&self) -> Option<String> {
        common_name(self.issuer)
    }

    /// The common name of its subject.
    pub(super) fn subject(&self) -> Option<String> {
        common_name(self.subject)
    }
}

/// The elements of a constructed type: tag and content of each, as far as they can be read.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The content of the next one, if it has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(is, _)| *is == tag)
            .map(|(_, content)| content)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let add = |length: usize, digit: &u8| length << 8 | usize::from(*digit);
                (digits.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

/// The common name in a distinguished name, without what does not belong in a message.
fn common_name(name: &[u8]) -> Option<String> {
    let parts = Elements(name).flat_map(|(_, set)| Elements(set));
    let mut names = parts.filter_map(|(_, part)| {
        let mut part = Elements(part);
        let is_one = part.expect(OBJECT_IDENTIFIER)? == COMMON_NAME;
        part.next().filter(|_| is_one).map(|(_, text)| text)
    });
    let text = String::from_utf8_lossy(names.next()?).into_owned();
    let harmless = text.chars().filter(|letter| !letter.is_control());
    Some(harmless.take(100).collect())
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0, |number: i64, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year = number(year)?;
            (year + if year < 50 { 2000 } else { 1900 }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year)?, rest)
        }
        _ => return None,
    };
    let (pairs, _) = rest.as_chunks::<2>();
    let [month, day, hour, minute, second] = pairs else {
        return None;
    };
    let day = days_since_1970(year, number(month)?, number(day)?);
    Some(((day * 24 + number(hour)?) * 60 + number(minute)?) * 60 + number(second)?)
}

/// The number of a day of the Gregorian calendar. The year begins in March here, so that a leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 719_468
}

/// The date of a time in seconds since 1970: `2026-11-30`.
pub(super) fn date(seconds: i64) -> String {
    let days = seconds.div_euclid(24 * 60 * 60) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn fields_of_a_certificate() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "me\n");
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 12, 31);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let certificate = Certificate::read(made.der()).unwrap();
        assert!(certificate.is_self_signed() && certificate.has_names);
        assert_eq!(certificate.issuer().as_deref(), Some("me"));
        assert_eq!(date(certificate.not_before), "2020-02-29");
        assert_eq!(date(certificate.not_after), "2051-12-31");
        let unnamed = CertificateParams::default().self_signed(&key).unwrap();
        assert!(!Certificate::read(unnamed.der()).unwrap().has_names);
        // Whatever is cut off or changed, nothing panics.
        let der = made.der().as_ref();
        for place in 0..der.len() {
            let _ = Certificate::read(&der[..place]);
            let mut changed = der.to_vec();
            changed[place] ^= 0xff;
            let _ = Certificate::read(&changed);
        }
    }

    #[test]
    fn days_of_the_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (20_787, "2026-11-30"),
        ] {
            assert_eq!(date(days * 86_400), expected);
        }
        assert_eq!(
            time((UTC_TIME, b"261130010203Z")),
            Some(20_787 * 86_400 + 3723)
        );
        assert_eq!(time((GENERALIZED_TIME, b"19700101000000Z")), Some(0));
        assert_eq!(time((UTC_TIME, b"2611300102Z")), None);
    }
}
