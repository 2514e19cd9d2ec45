//! Where actors are to listen, and whether they do: an address that cannot be had ends no actor, so its roster would not tell.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// All places where actors are to listen. Clones share it.
#[derive(Clone, Default)]
pub struct Listeners(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    places: u64,
    tried: BTreeMap<u64, Listener>,
}

/// A place where an actor is to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// The actor.
    pub actor: String,
    /// The address and port, or the path.
    pub listen: String,
    /// Why it cannot be had, while it cannot.
    pub error: Option<String>,
}

impl Listeners {
    /// An actor is to listen there, for as long as the place is kept. It is among the others from the first try on.
    pub fn place(&self, actor: &'static str, listen: impl Display) -> Place {
        let mut book = self.lock();
        book.places += 1;
        Place { listeners: self.clone(), number: book.places, actor, listen: listen.to_string() }
    }

    /// All of them, by actor.
    pub fn all(&self) -> Vec<Listener> {
        let mut all: Vec<_> = self.lock().tried.values().cloned().collect();
        all.sort();
        all
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one of them is told by. It goes with it: also when its actor panics.
pub struct Place {
    listeners: Listeners,
    number: u64,
    actor: &'static str,
    listen: String,
}

impl Place {
    /// The actor listens there.
    pub fn open(&self) {
        self.tell(None);
    }

    /// It cannot, for now.
    pub fn closed(&self, why: impl Display) {
        self.tell(Some(why.to_string()));
    }

    fn tell(&self, error: Option<String>) {
        let listener = Listener { actor: self.actor.to_owned(), listen: self.listen.clone(), error };
        self.listeners.lock().tried.insert(self.number, listener);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listeners.lock().tried.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_there_from_its_first_try_to_its_end() {
        let listeners = Listeners::default();
        let (open, closed) = (listeners.place("web", "127.0.0.1:9876"), listeners.place("responder", "127.0.0.1:80"));
        assert_eq!(listeners.all(), []);
        open.open();
        closed.closed("permission denied");
        let said = |listener: &Listener| format!("{} {} {:?}", listener.actor, listener.listen, listener.error);
        let all: Vec<_> = listeners.all().iter().map(said).collect();
        assert_eq!(all, ["responder 127.0.0.1:80 Some(\"permission denied\")", "web 127.0.0.1:9876 None"]);
        closed.open();
        assert!(listeners.all().iter().all(|listener| listener.error.is_none()));
        drop((open, closed));
        assert_eq!(listeners.all(), []);
    }
}
