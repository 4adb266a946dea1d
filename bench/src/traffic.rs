//! Traffic whose correct reading is known: [`Exchange`]s form a [`Conversation`], whose segments undergo [`Accidents`] and
//! are encapsulated for a [`Wire`].
//!
//! ```
//! use bench::seed::Seed;
//! use bench::traffic::{Accidents, Conversation, Shape, Wire, frames, write_pcap};
//!
//! let mut seed = Seed::new(7);
//! let conversation = Conversation::seeded(&mut seed, &Shape::default());
//! let accidents = Accidents { reorder_per_mille: 100, ..Accidents::none() };
//! let frames = frames(&[(conversation, Wire::default())], &accidents, &mut seed);
//! let mut file = Vec::new();
//! write_pcap(&mut file, &frames, usize::MAX).unwrap();
//! ```

mod accidents;
mod capture;
mod conversation;
mod exchange;
pub mod http2;
mod side;
mod streams;
mod wire;

pub use accidents::Accidents;
pub use capture::{read_pcap, write_pcap};
pub use conversation::{Close, Conversation, Segment, Shape, flags};
pub use exchange::{Body, Coding, Exchange, Framing};
pub use side::Side;
pub use wire::{Frame, Vxlan, Wire};

use crate::seed::Seed;

/// All frames of several conversations, in the order in which a capture has them.
pub fn frames(
    conversations: &[(Conversation, Wire)],
    accidents: &Accidents,
    seed: &mut Seed,
) -> Vec<Frame> {
    let mut all = Vec::new();
    for (conversation, wire) in conversations {
        let segments =
            accidents.happen(conversation.segments(), conversation.mss, &mut seed.fork());
        all.extend(
            segments
                .iter()
                .map(|segment| wire.frame(conversation, segment)),
        );
    }
    // The sort is stable, so frames of one conversation, whose times never decrease, keep their order.
    all.sort_by_key(|frame| frame.time);
    all
}
