//! The places of one listener: who may have how many connections, and which one gives its place to a new one.
//!
//! A connection either has a request that is being answered, or waits for its peer: for a head, for the next bytes of a body, or
//! idle between two requests. Where no place is free for a new connection, the one that has waited longest is closed: a peer
//! that opens connections and stalls loses those, and keeps nobody else out. Senders on the network have a number of places
//! each, and can never take those that are kept for this host. What else listens in this program has its places in the same way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sender::Sender;

/// How many places a listener has.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// All of them.
    pub connections: usize,
    /// Those of them that are kept for this host.
    pub local: usize,
    /// Those that one sender on the network may take.
    pub sender: usize,
}

/// What a connection does.
#[derive(Clone, Copy, Debug)]
enum Activity {
    /// It waits for its peer, since then.
    Waits(Instant),
    /// A request is being answered.
    Answers,
    /// A stream is open, until the connection ends.
    Streams,
}

/// A connection as its place and its requests see it.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    activity: Mutex<Activity>,
    closing: Notify,
    closed: AtomicBool,
}

impl Connection {
    fn new(sender: Sender) -> Self {
        Self {
            sender,
            activity: Mutex::new(Activity::Waits(Instant::now())),
            closing: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Who is at the other end.
    pub(crate) fn sender(&self) -> Sender {
        self.sender
    }

    /// From now on it waits for its peer.
    pub(crate) fn waits(&self) {
        self.turn_to(Activity::Waits(Instant::now()));
    }

    /// A request is whole and is being answered.
    pub(crate) fn answers(&self) {
        self.turn_to(Activity::Answers);
    }

    /// The answer is a stream.
    pub(crate) fn streams(&self) {
        self.turn_to(Activity::Streams);
    }

    fn turn_to(&self, next: Activity) {
        let mut activity = locked(&self.activity);
        if !matches!(*activity, Activity::Streams) {
            *activity = next;
        }
    }

    fn waits_since(&self) -> Option<Instant> {
        match *locked(&self.activity) {
            Activity::Waits(since) => Some(since),
            Activity::Answers | Activity::Streams => None,
        }
    }

    /// Whether its place was given to another connection, so that this one has to end.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    /// Completes when the place is needed for another connection.
    pub(crate) async fn closing(&self) {
        self.closing.notified().await;
    }
}

/// The places of a listener.
#[derive(Debug)]
pub struct Places {
    room: Room,
    taken: Mutex<Vec<Arc<Connection>>>,
    refused: AtomicU64,
    closed: AtomicU64,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    connection: Arc<Connection>,
}

impl Place {
    /// The connection that has it.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.places.taken).retain(|other| !Arc::ptr_eq(other, &self.connection));
    }
}

impl Places {
    /// All of them, free.
    pub fn new(room: Room) -> Self {
        Self {
            room,
            taken: Mutex::default(),
            refused: AtomicU64::new(0),
            closed: AtomicU64::new(0),
        }
    }

    /// A place for a new connection; `None` when none is free and every connection that could give its own has a request.
    pub fn take(self: &Arc<Self>, sender: Sender) -> Option<Place> {
        let mut taken = locked(&self.taken);
        if let Some(crowd) = self.room.crowd(&taken, sender) {
            let longest = taken
                .iter()
                .enumerate()
                .filter(|(_, other)| crowd.has(other.sender))
                .filter_map(|(at, other)| Some((other.waits_since()?, at)))
                .min();
            let Some((_, at)) = longest else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            taken.swap_remove(at).close();
            self.closed.fetch_add(1, Ordering::Relaxed);
        }
        let connection = Arc::new(Connection::new(sender));
        taken.push(Arc::clone(&connection));
        Some(Place {
            places: Arc::clone(self),
            connection,
        })
    }

    /// Connections that found no place.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections that waited and were closed to give their place to another.
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Among whose connections one has to give its place.
enum Crowd {
    One(Sender),
    Network,
}

impl Crowd {
    fn has(&self, sender: Sender) -> bool {
        match self {
            Self::One(one) => *one == sender,
            Self::Network => !sender.is_of_this_host(),
        }
    }
}

impl Room {
    /// `None` while there is a free place for this sender.
    fn crowd(self, taken: &[Arc<Connection>], sender: Sender) -> Option<Crowd> {
        let count = |crowd: &Crowd| taken.iter().filter(|other| crowd.has(other.sender)).count();
        let own = Crowd::One(sender);
        if sender.is_of_this_host() {
            return (taken.len() >= self.connections).then_some(own);
        }
        if count(&own) >= self.sender {
            return Some(own);
        }
        (count(&Crowd::Network) >= self.connections - self.local).then_some(Crowd::Network)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole between any two of the operations above.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CONNECTIONS, CONNECTIONS_LOCAL, CONNECTIONS_MAX, CONNECTIONS_SENDER_MAX};

    fn places() -> Arc<Places> {
        Arc::new(Places::new(CONNECTIONS))
    }

    fn host(number: u8) -> Sender {
        Sender::of([192, 0, 2, number].into())
    }

    fn full(places: &Arc<Places>, sender: Sender, count: usize) -> Vec<Place> {
        let taken: Option<Vec<_>> = (0..count).map(|_| places.take(sender)).collect();
        taken.expect("free places")
    }

    fn is_closed(place: &Place) -> bool {
        let taken = locked(&place.places.taken);
        let has_place = taken
            .iter()
            .any(|other| Arc::ptr_eq(other, &place.connection));
        assert_ne!(has_place, place.connection.is_closed());
        !has_place
    }

    #[test]
    fn the_connection_that_waited_longest_gives_its_place() {
        let places = places();
        let taken = full(&places, Sender::Local, CONNECTIONS_MAX);
        taken[0].connection.answers();
        taken[2].connection.waits();
        assert!(places.take(Sender::Local).is_some());
        assert!(is_closed(&taken[1]) && !is_closed(&taken[0]) && !is_closed(&taken[2]));
        assert_eq!((places.closed(), places.refused()), (1, 0));
    }

    #[test]
    fn without_one_that_waits_a_connection_is_refused() {
        let places = places();
        let taken = full(&places, host(1), CONNECTIONS_SENDER_MAX);
        for place in &taken {
            place.connection.answers();
        }
        taken[0].connection.streams();
        taken[0].connection.waits();
        assert!(places.take(host(1)).is_none());
        assert_eq!((places.closed(), places.refused()), (0, 1));
        assert!(places.take(host(2)).is_some());
        drop(taken);
        assert!(places.take(host(1)).is_some());
    }

    #[test]
    fn the_network_cannot_take_the_places_of_this_host() {
        let places = places();
        let network: Vec<_> = (0..4)
            .flat_map(|number| full(&places, host(number), CONNECTIONS_SENDER_MAX))
            .collect();
        for place in &network {
            place.connection.answers();
        }
        let open = network.iter().filter(|place| !is_closed(place)).count();
        assert_eq!(open, CONNECTIONS_MAX - CONNECTIONS_LOCAL);
        let local = full(&places, Sender::Local, CONNECTIONS_LOCAL);
        assert!(!local.iter().any(is_closed));
        assert_eq!(locked(&places.taken).len(), CONNECTIONS_MAX);
    }
}
