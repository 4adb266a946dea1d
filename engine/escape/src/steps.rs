//! The loop over steps of 16 bytes, the same for every processor.

/// Defines `enclose` and `Step` of a version. The module around it has a type `Vector`, the functions on it that the loop
/// needs (`vector`, `bytes`, `either`, `is_ascii_text`), and `Step::new` and `Step::spread`. A macro, since code that is
/// compiled for some processors only cannot be a method of a trait.
macro_rules! steps {
    ($(#[$compiled_for:meta])*) => {
        /// See [`crate::enclose`].
        $(#[$compiled_for])*
        pub(crate) fn enclose(before: &[u8], text: &[u8], after: &[u8], out: &mut Vec<u8>) -> bool {
            let piece = text.get(..PIECE_BYTES).unwrap_or(text);
            reserve(out, before.len() + text.len() + piece.len() + after.len());
            let mut free = Free::behind(out);
            free.copy(before);
            let mut seen = vector(&[]);
            let is_plain = text.len() <= VALUE_BYTES && plain(text, &mut free, &mut seen);
            let done = if is_plain {
                text.len()
            } else {
                steps(piece, &mut free, &mut seen)
            };
            let is_whole = done == text.len();
            if is_whole {
                free.copy(after);
            }
            let written = free.written();
            // SAFETY: this is the vector that the memory is behind, and nothing was done to it since.
            unsafe { settle(out, written) };
            let mut is_ascii = is_ascii_text(seen);
            if !is_whole {
                let text = text.get(done..).unwrap_or_default();
                is_ascii &= go_on(text, done < piece.len(), out);
                out.extend_from_slice(after);
            }
            is_ascii
        }

        /// The rest of a text that is long or has a rare byte, perhaps in its first step.
        $(#[$compiled_for])*
        fn go_on(mut text: &[u8], mut starts_rare: bool, out: &mut Vec<u8>) -> bool {
            let mut is_ascii = true;
            loop {
                if starts_rare {
                    let (rare, rest) = text.split_at_checked(STEP_BYTES).unwrap_or((text, &[]));
                    is_ascii &= portable::escape(rare, out);
                    text = rest;
                }
                if text.is_empty() {
                    return is_ascii;
                }
                let piece = text.get(..PIECE_BYTES).unwrap_or(text);
                reserve(out, 2 * piece.len());
                let mut free = Free::behind(out);
                let mut seen = vector(&[]);
                let done = steps(piece, &mut free, &mut seen);
                let written = free.written();
                // SAFETY: this is the vector that the memory is behind, and nothing was done to it since.
                unsafe { settle(out, written) };
                is_ascii &= is_ascii_text(seen);
                starts_rare = done < piece.len();
                text = text.get(done..).unwrap_or_default();
            }
        }

        /// Copies a short text in which nothing has to be escaped; false and nothing written for any other.
        ///
        /// Nearly all values are of this kind; their cost is not in the steps but around them.
        #[inline]
        $(#[$compiled_for])*
        fn plain(text: &[u8], free: &mut Free<'_>, seen: &mut Vector) -> bool {
            let Some(last) = text.last_chunk::<STEP_BYTES>() else {
                let step = Step::new(vector(text));
                // After the end there are zeros.
                let is_plain = step.special.unbounded_shl(32 - text.len() as u32) == 0;
                if is_plain {
                    *seen = step.text;
                    free.put([(bytes(step.text), text.len())]);
                }
                return is_plain;
            };
            let (mut special, mut all) = (0, vector(&[]));
            let (blocks, rest) = text.as_chunks::<STEP_BYTES>();
            let mut copy = |block: &[u8; STEP_BYTES], free: &mut Free<'_>| {
                let step = Step::new(vector(block));
                special |= step.special;
                all = either(all, step.text);
                free.put([(*block, STEP_BYTES)]);
            };
            for block in blocks {
                copy(block, free);
            }
            if !rest.is_empty() {
                // It overlaps the one before it.
                free.take_back(STEP_BYTES - rest.len());
                copy(last, free);
            }
            *seen = all;
            if special != 0 {
                free.take_back(text.len());
                *seen = vector(&[]);
            }
            special == 0
        }

        /// Escapes `piece` up to a step with a rare byte in it; returns how much that was. In `seen` are all its bytes,
        /// one over the other.
        #[inline]
        $(#[$compiled_for])*
        fn steps(piece: &[u8], free: &mut Free<'_>, seen: &mut Vector) -> usize {
            let mut done = 0;
            let (pairs, _) = piece.as_chunks::<{ 2 * STEP_BYTES }>();
            for pair in pairs {
                let (one, two) = pair.split_at(STEP_BYTES);
                let (one, two) = (Step::new(vector(one)), Step::new(vector(two)));
                if one.is_rare() || two.is_rare() {
                    break;
                }
                *seen = either(*seen, either(one.text, two.text));
                if one.special | two.special == 0 {
                    free.put([(bytes(one.text), STEP_BYTES), (bytes(two.text), STEP_BYTES)]);
                } else {
                    let ([a, b], [c, d]) = (one.spread(), two.spread());
                    free.put([a, b, c, d]);
                }
                done += 2 * STEP_BYTES;
            }
            for block in piece.get(done..).unwrap_or_default().chunks(STEP_BYTES) {
                let mut step = Step::new(vector(block));
                // After the end there are zeros, which would be rare bytes.
                let valid = u32::MAX.unbounded_shr(32 - block.len() as u32);
                step.short &= valid;
                step.special &= valid;
                if step.is_rare() {
                    break;
                }
                *seen = either(*seen, step.text);
                if step.special == 0 {
                    free.put([(bytes(step.text), block.len())]);
                } else {
                    let [(low, low_count), (high, high_count)] = step.spread();
                    // No byte after the end needs an escape.
                    let absent = STEP_BYTES - block.len();
                    free.put([
                        (low, low_count - absent.saturating_sub(8)),
                        (high, high_count - absent.min(8)),
                    ]);
                }
                done += block.len();
            }
            done
        }

        /// 16 bytes, and which of them are special.
        struct Step {
            text: Vector,
            /// All ones where a byte has an escape of two bytes.
            is_short: Vector,
            /// A bit for each of them.
            short: u32,
            /// A bit for each byte with an escape.
            special: u32,
        }

        impl Step {
            /// Whether a byte of it needs an escape of six bytes.
            #[inline]
            fn is_rare(&self) -> bool {
                self.special != self.short
            }
        }
    };
}

pub(crate) use steps;
