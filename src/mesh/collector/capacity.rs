//! How much room there is: for connections, and for bodies that are being read. Pure.
//!
//! No origin can take all of it: of the connections it has a quarter at most, of the memory for bodies never more than
//! what is left for all others together.

use std::collections::HashMap;

use super::origin::Origin;

/// Bytes of bodies in memory, all together.
pub const BODIES: usize = 32 << 20;

/// What is taken.
#[derive(Debug)]
pub struct Capacity {
    most: usize,
    connections: usize,
    connections_of: HashMap<Origin, usize>,
    bodies: usize,
    bodies_of: HashMap<Origin, usize>,
}

impl Capacity {
    /// Room for so many connections.
    pub fn new(most: usize) -> Self {
        Self { most, connections: 0, connections_of: HashMap::new(), bodies: 0, bodies_of: HashMap::new() }
    }

    /// The connections that there are.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Another number of connections from now on; those that there are stay.
    pub fn resize(&mut self, most: usize) {
        self.most = most;
    }

    /// A connection comes. None is a proxy, which speaks for many. False if there is no room.
    #[must_use]
    pub fn enter(&mut self, origin: Option<Origin>) -> bool {
        let share = (self.most / 4).max(1);
        let of_origin = origin.and_then(|origin| self.connections_of.get(&origin)).copied().unwrap_or_default();
        if self.connections >= self.most || of_origin >= share {
            return false;
        }
        self.connections += 1;
        if let Some(origin) = origin {
            add(&mut self.connections_of, origin, 1);
        }
        true
    }

    /// It goes.
    pub fn leave(&mut self, origin: Option<Origin>) {
        self.connections = self.connections.saturating_sub(1);
        if let Some(origin) = origin {
            subtract(&mut self.connections_of, origin, 1);
        }
    }

    /// Bytes of a body came. False if there is no room for them.
    #[must_use]
    pub fn hold(&mut self, origin: Origin, bytes: usize) -> bool {
        let of_origin = self.bodies_of.get(&origin).copied().unwrap_or_default();
        if of_origin + bytes > BODIES.saturating_sub(self.bodies) {
            return false;
        }
        self.bodies += bytes;
        add(&mut self.bodies_of, origin, bytes);
        true
    }

    /// They are not needed any more.
    pub fn release(&mut self, origin: Origin, bytes: usize) {
        self.bodies = self.bodies.saturating_sub(bytes);
        subtract(&mut self.bodies_of, origin, bytes);
    }
}

fn add(taken: &mut HashMap<Origin, usize>, origin: Origin, more: usize) {
    *taken.entry(origin).or_default() += more;
}

/// Entries without anything go, so that the map has no more of them than there are connections.
fn subtract(taken: &mut HashMap<Origin, usize>, origin: Origin, less: usize) {
    if let Some(of_origin) = taken.get_mut(&origin) {
        *of_origin = of_origin.saturating_sub(less);
        if *of_origin == 0 {
            taken.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Origin = Origin::V6(1);
    const B: Origin = Origin::V6(2);

    #[test]
    fn one_origin_has_a_quarter_of_the_connections_and_a_proxy_all_of_them() {
        let mut capacity = Capacity::new(100);
        assert_eq!((0..200).filter(|_| capacity.enter(Some(A))).count(), 25);
        assert_eq!((0..200).filter(|_| capacity.enter(None)).count(), 75);
        assert!(!capacity.enter(Some(B)));
        capacity.leave(Some(A));
        assert!(capacity.enter(Some(B)) && !capacity.enter(Some(A)));
        assert_eq!(capacity.connections(), 100);
        for origin in [None; 75].into_iter().chain([Some(A); 24]).chain([Some(B)]) {
            capacity.leave(origin);
        }
        assert_eq!((capacity.connections(), capacity.connections_of.len()), (0, 0));
    }

    #[test]
    fn one_origin_never_holds_more_than_is_left_for_the_others() {
        let mut capacity = Capacity::new(1);
        let kib = (0..BODIES).take_while(|_| capacity.hold(A, 1024)).count();
        assert_eq!(kib * 1024, BODIES / 2);
        assert!(capacity.hold(B, 1 << 20));
        capacity.release(B, 1 << 20);
        capacity.release(A, kib * 1024);
        assert_eq!((capacity.bodies, capacity.bodies_of.len()), (0, 0));
    }
}
