//! Which clients have opened a QUIC connection: a client repeats its first packet until it is answered.
//!
//! Bounded: 4 KiB. Of two clients with the same place the one seen last is remembered, so that their repeated packets may
//! be counted again.

/// Clients remembered.
const CLIENTS: usize = 1024;

/// The clients that were seen last.
#[derive(Debug, Default)]
pub(super) struct QuicClients {
    /// By the low bits of their numbers, the high ones; empty before the first client.
    seen: Vec<u32>,
}

impl QuicClients {
    /// Whether the client of this number was not seen before, as far as is remembered.
    pub(super) fn is_new(&mut self, client: u64) -> bool {
        self.seen.resize(CLIENTS, 0);
        let tag = (client >> 32) as u32 | 1;
        let place = self.seen.get_mut(client as usize % CLIENTS);
        place.is_some_and(|place| std::mem::replace(place, tag) != tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_counted_once() {
        let mut clients = QuicClients::default();
        assert!(clients.is_new(7 << 32 | 5));
        assert!(!clients.is_new(7 << 32 | 5));
        assert!(clients.is_new(9 << 32 | 6));
        assert!(!clients.is_new(7 << 32 | 5));
    }
}
