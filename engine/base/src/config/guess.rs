//! The known word that a misspelt one probably means.

/// Letters of a beginning by which a word is known.
const BEGINNING_LETTERS: usize = 3;

/// The known word nearest to `word`, if at most a third of its letters differ, or else the only one that begins so. A swap of
/// neighbours counts as one letter.
pub fn guess<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = word.chars().count();
    let known: Vec<&str> = known.collect();
    let near = known
        .iter()
        .map(|name| (strsim::osa_distance(word, name), *name));
    let (distance, nearest) = near.min()?;
    if distance <= (letters / 3).max(1) {
        return Some(nearest);
    }
    // The beginning of one name only.
    let mut begun = known.iter().filter(|name| name.starts_with(word));
    let first = begun.next().filter(|_| letters >= BEGINNING_LETTERS)?;
    begun.next().is_none().then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_letters_may_differ_or_be_the_beginning() {
        for (word, expected) in [
            ("vlxan", Some("vxlan")),
            ("auot", Some("auto")),
            ("mirrors", Some("mirror")),
            ("mir", Some("mirror")),
            ("mi", None),
            ("pcap", None),
            ("", None),
        ] {
            let known = ["vxlan", "mirror", "auto"];
            assert_eq!(guess(word, known.into_iter()), expected, "{word}");
        }
    }
}
