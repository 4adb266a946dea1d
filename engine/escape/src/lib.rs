//! Escaping of JSON strings (RFC 8259 §7): `"`, `\` and controls below 0x20 are escaped, all other bytes copied.
//!
//! In addition [`marks`] and [`marks_up_to_cr`], which find the ends of lines and of their parts in the same way, and [`has_control`],
//! which finds what no text has.
//!
//! UTF-8 is not validated, only distinguished from ASCII: a text that is ASCII needs no other pass. A crate of its own for
//! the two operations that the compiler cannot check: selecting code by the processor, and declaring memory initialised.
//! The rest is safe code in three versions: 16 bytes per step on x86-64 (SSE4.2, in every processor since 2009) and on
//! aarch64, and portable code that both are tested against.
//!
//! # How the vectors work
//!
//! JSON inside JSON has a quote in every six bytes, so going from one special byte to the next costs a branch that is
//! often mispredicted and a copy of unknown length for each. Instead, the special bytes become a mask; for every eight
//! bytes, the eight bits of the mask select a row of a table with the position of each byte and backslashes in the gaps.
//! One instruction shuffles them, and the next eight bytes are written after the last one that counts, over the excess.
//! No branch depends on the positions of quotes. Escapes of six bytes (`\u0000`) are rare, and are written one by one.
//!
//! Measured by `bench/instructions plain 2000`, instructions for all values of a call with a body of 2000 bytes: 39 k with
//! eight bytes per step, a loop over the special ones and a check of UTF-8 before; 11 k now.

#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod controls;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod free;
mod marks;
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod short;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod steps;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tables;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use controls::has_control;
pub use marks::{BLOCK_BYTES, marks, marks_up_to_cr};

/// Bytes for which capacity is reserved at once: enough to reserve rarely, and little to waste.
const PIECE_BYTES: usize = 1024;

/// A text of up to this many bytes may be a value in which nothing is escaped; longer ones are bodies, which are JSON.
const VALUE_BYTES: usize = 128;

/// Appends the JSON string text of `text`, byte by byte; returns whether all of it is ASCII.
#[inline]
pub fn escape(text: &[u8], out: &mut Vec<u8>) -> bool {
    enclose(b"", text, b"", out)
}

/// Appends `before` as it is, the JSON string text of `text`, and `after` as it is; returns whether all of `text` is ASCII.
///
/// Capacity is reserved once for the three: most texts are so short that this is half of the work.
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(
        unsafe_code,
        reason = "calls code that is compiled for some processors only"
    )
)]
#[inline(always)]
pub fn enclose(before: &[u8], text: &[u8], after: &[u8], out: &mut Vec<u8>) -> bool {
    #[cfg(target_arch = "x86_64")]
    if has_vectors() {
        // SAFETY: the function is safe but for the features it is compiled with, and the processor has them.
        return unsafe { x86_64::enclose(before, text, after, out) };
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: the function is safe but for the feature it is compiled with, and the processor has it.
        return unsafe { aarch64::enclose(before, text, after, out) };
    }
    out.extend_from_slice(before);
    let is_ascii = portable::escape(text, out);
    out.extend_from_slice(after);
    is_ascii
}

/// Whether the processor has SSE4.2 and POPCNT: one comparison, where the library's looks at each feature took a tenth of the
/// time of a short text.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_vectors() -> bool {
    use std::sync::atomic::{AtomicU8, Ordering};

    const NO: u8 = 1;
    const YES: u8 = 2;
    /// 0 until it is known.
    static KNOWN: AtomicU8 = AtomicU8::new(0);

    #[cold]
    fn look() -> bool {
        let has_them = std::arch::is_x86_feature_detected!("sse4.2")
            && std::arch::is_x86_feature_detected!("popcnt");
        KNOWN.store(if has_them { YES } else { NO }, Ordering::Relaxed);
        has_them
    }

    match KNOWN.load(Ordering::Relaxed) {
        YES => true,
        NO => false,
        _ => look(),
    }
}
