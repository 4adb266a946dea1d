//! Bytes in, the inside of a JSON string out (RFC 8259 §7): `"`, `\` and controls below 0x20 escaped, all others copied.
//!
//! Beside it, [`marks`]: where lines of text and their parts end, by the same means.
//!
//! UTF-8 is not looked at, only told apart from ASCII: a text that is ASCII needs no other pass. A crate of its own for
//! the two operations that the compiler cannot check: choosing code by the processor that it runs on, and declaring
//! memory written. The rest is safe code in three versions: 16 bytes a step on x86-64 (SSE4.2, any since 2009) and on
//! aarch64, and portable code that is the twin of both in the tests.
//!
//! # How the vectors work
//!
//! JSON inside JSON has a quote in every six bytes, so going from one special byte to the next means a branch that is
//! guessed wrongly now and then, and a copy of unknown length for each. Instead: which bytes are special becomes a mask;
//! of every eight bytes, the eight bits of the mask choose a row of a table that says where each byte goes, with
//! backslashes in the gaps; one instruction does it, and the next eight bytes are written behind, over what was
//! written too much. No branch depends on where quotes are. Escapes of six bytes (`\u0000`) are rare, and are written one
//! by one.
//!
//! Measured by `bench/instructions plain 2000`, instructions for all values of a call with a body of 2000 bytes: 39 k with
//! eight bytes a step, a loop over the special ones and a check of UTF-8 before; 11 k now.

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

pub use marks::{BLOCK_BYTES, marks};

/// Bytes for which room is made at once: enough that it is rarely done, and little to have too much of.
const PIECE_BYTES: usize = 1024;

/// A text of up to so many bytes may be a value in which nothing is escaped; longer ones are bodies, which are JSON.
const VALUE_BYTES: usize = 128;

/// Appends the JSON string text of `text`, byte by byte; returns whether all of it is ASCII.
#[inline]
pub fn escape(text: &[u8], out: &mut Vec<u8>) -> bool {
    enclose(b"", text, b"", out)
}

/// Appends `before` as it is, the JSON string text of `text`, and `after` as it is; returns whether all of `text` is ASCII.
///
/// Room is made once for the three: most texts are so short that this is half of the work.
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(
        unsafe_code,
        reason = "calls code that is compiled for some processors only"
    )
)]
#[inline]
pub fn enclose(before: &[u8], text: &[u8], after: &[u8], out: &mut Vec<u8>) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2")
        && std::arch::is_x86_feature_detected!("popcnt")
    {
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
