//! The known word that a misspelt one probably means.

/// The known word nearest to `word`, if at most a third of its letters differ. A swap of neighbours counts as one.
pub fn guess<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = known
        .map(|name| (strsim::osa_distance(word, name), name))
        .min()?;
    (distance <= (word.chars().count() / 3).max(1)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_letters_may_differ() {
        for (word, expected) in [
            ("vlxan", Some("vxlan")),
            ("auot", Some("auto")),
            ("mirrors", Some("mirror")),
            ("pcap", None),
            ("", None),
        ] {
            let known = ["vxlan", "mirror", "auto"];
            assert_eq!(guess(word, known.into_iter()), expected, "{word}");
        }
    }
}
