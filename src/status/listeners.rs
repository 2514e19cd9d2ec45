//! Where actors are to listen, and whether they do: an address that cannot be had ends no actor, so its roster would not tell.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// All places where actors are to listen. Clones share it.
#[derive(Clone, Default)]
pub struct Listeners(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    noted: u64,
    entries: Vec<(u64, Listener)>,
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
    /// An actor listens there, for as long as the note is kept.
    pub fn open(&self, actor: &str, listen: impl Display) -> Note {
        self.note(actor, &listen, None)
    }

    /// An actor is to listen there and cannot, for as long as the note is kept.
    pub fn closed(&self, actor: &str, listen: impl Display, why: impl Display) -> Note {
        self.note(actor, &listen, Some(why.to_string()))
    }

    fn note(&self, actor: &str, listen: &impl Display, error: Option<String>) -> Note {
        let mut book = self.lock();
        book.noted += 1;
        let number = book.noted;
        book.entries.push((number, Listener { actor: actor.to_owned(), listen: listen.to_string(), error }));
        Note { listeners: self.clone(), number }
    }

    /// All of them, by actor.
    pub fn all(&self) -> Vec<Listener> {
        let mut all: Vec<_> = self.lock().entries.iter().map(|(_, listener)| listener.clone()).collect();
        all.sort();
        all
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry, which goes with it: also when its actor panics.
#[must_use]
pub struct Note {
    listeners: Listeners,
    number: u64,
}

impl Drop for Note {
    fn drop(&mut self) {
        self.listeners.lock().entries.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_there_as_long_as_its_note() {
        let listeners = Listeners::default();
        let open = listeners.open("web", "127.0.0.1:9876");
        let closed = listeners.closed("responder", "127.0.0.1:80", "permission denied");
        let said = |listener: &Listener| format!("{} {} {:?}", listener.actor, listener.listen, listener.error);
        let all: Vec<_> = listeners.all().iter().map(said).collect();
        assert_eq!(all, ["responder 127.0.0.1:80 Some(\"permission denied\")", "web 127.0.0.1:9876 None"]);
        drop(closed);
        let again = listeners.open("responder", "127.0.0.1:80");
        assert_eq!(listeners.all().len(), 2);
        drop((open, again));
        assert_eq!(listeners.all(), []);
    }
}
