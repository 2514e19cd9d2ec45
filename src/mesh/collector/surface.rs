//! What all threads of the collector's server share, and what outlives it: settings that a reload swaps, limits, counts.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::capacity::Capacity;
use super::counts::{Count, Counts};
use super::key::{Key, Shown};
use super::limits::Limits;
use super::mentions::Mentions;
use super::origin::Origin;
use super::settings::Settings;
use super::store::Store;
use crate::clock::Clock;
use crate::measurement::{Counter, Field};

/// The collector, as its callers see it.
pub struct Surface {
    /// Where results go.
    pub store: Arc<Store>,
    /// What happened.
    pub counts: Counts,
    clock: Clock,
    front: RwLock<Option<Arc<Front>>>,
    limits: Mutex<Limits>,
    capacity: Mutex<Capacity>,
    mentions: Mutex<Mentions>,
    /// Told whenever memory for bodies becomes free.
    room: Notify,
}

/// What the settings come down to for a call.
pub struct Front {
    /// The settings.
    pub settings: Settings,
    key: Key,
    /// The answer to who asks for the list.
    pub probes: Bytes,
    /// The answer to who asks for the schedule, if there is one.
    pub schedule: Option<Bytes>,
}

impl Surface {
    /// Nothing is served before [`Surface::configure`].
    pub fn new(store: Arc<Store>, clock: Clock) -> Self {
        Self {
            store,
            counts: Counts::default(),
            clock,
            front: RwLock::default(),
            limits: Mutex::new(Limits::new(RandomState::new())),
            capacity: Mutex::new(Capacity::new(0)),
            mentions: Mutex::default(),
            room: Notify::new(),
        }
    }

    /// Takes settings, at the start and from a reload. Calls in flight go on with what they began with.
    pub fn configure(&self, settings: Option<&Settings>) {
        let before = self.front();
        if before.as_ref().map(|front| &front.settings) == settings {
            return;
        }
        self.store.configure(settings);
        let front = settings.map(|settings| Arc::new(Front::new(settings.clone())));
        *self.front.write().unwrap_or_else(PoisonError::into_inner) = front;
    }

    /// What is served now.
    pub fn front(&self) -> Option<Arc<Front>> {
        self.front.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Room for so many connections from now on.
    pub fn resize(&self, connections: usize) {
        lock(&self.capacity).resize(connections);
    }

    /// A connection comes; none is a unix socket. Gives the place to give back, if there is one.
    pub fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Place> {
        let trusted = |peer| self.front().is_some_and(|front| front.settings.trusts(peer));
        let origin = peer.filter(|peer| !trusted(*peer)).map(Origin::of);
        if lock(&self.capacity).enter(origin) {
            return Some(Place { surface: Arc::clone(self), origin });
        }
        self.counts.add(Count::RefusedConnections, 1);
        if let Some(suppressed) = self.mention(origin.unwrap_or(Origin::Local), "connections") {
            let origin = origin.map(|origin| origin.to_string());
            tracing::warn!(origin, suppressed, "collector has no room for a connection");
        }
        None
    }

    /// May this call be answered? Else how long to wait.
    pub fn may_call(&self, origin: Origin) -> Result<(), Duration> {
        let asked = lock(&self.limits).call(origin, self.now());
        if asked.is_err() {
            self.counts.add(Count::RateLimited, 1);
            if let Some(suppressed) = self.mention(origin, "rate") {
                tracing::warn!(%origin, suppressed, "collector is called too often");
            }
        }
        asked
    }

    /// What the key is worth that a call shows.
    pub fn check(&self, front: &Front, origin: Origin, key: Option<&[u8]>) -> Shown {
        let shown = front.key.check(key);
        let count = match shown {
            Shown::Right => {
                lock(&self.limits).right_key(origin, self.now());
                return shown;
            }
            Shown::Wrong => Count::WrongKey,
            Shown::Missing => Count::NoKey,
        };
        lock(&self.limits).wrong_key(origin, self.now());
        self.counts.add(count, 1);
        if let Some(suppressed) = self.mention(origin, "key") {
            tracing::warn!(%origin, given = shown == Shown::Wrong, suppressed, "collector was called without the right key");
        }
        shown
    }

    /// Whether to mention this now, and with how many that were not.
    pub fn mention(&self, origin: Origin, what: &'static str) -> Option<u64> {
        lock(&self.mentions).note(origin, what, self.now())
    }

    /// Waits for memory for a part of a body.
    pub async fn hold(&self, origin: Origin, bytes: usize) {
        loop {
            let freed = self.room.notified();
            tokio::pin!(freed);
            // From here on nothing is missed.
            freed.as_mut().enable();
            if lock(&self.capacity).hold(origin, bytes) {
                return;
            }
            freed.await;
        }
    }

    /// Gives it back.
    pub fn release(&self, origin: Origin, bytes: usize) {
        lock(&self.capacity).release(origin, bytes);
        self.room.notify_waiters();
    }

    /// For qosd's own rows.
    pub fn counters(&self) -> Vec<Counter> {
        let inside = self.store.counts().unwrap_or_default().counters();
        self.calls().into_iter().chain(inside).collect()
    }

    fn calls(&self) -> Vec<Counter> {
        self.counts.all(lock(&self.capacity).connections())
    }

    /// For the state socket; null without a collector.
    pub fn status(&self) -> serde_json::Value {
        let Some(front) = self.front() else { return serde_json::Value::Null };
        let name = |field: Field<i64>| field.info().name.trim_start_matches("collector_");
        let calls: serde_json::Map<_, _> = self.calls().into_iter().map(|(field, count)| (name(field).to_owned(), count.into())).collect();
        let mut status = serde_json::json!(self.store.status());
        if let Some(entries) = status.as_object_mut() {
            entries.insert("listen".to_owned(), front.settings.listen.to_string().into());
            entries.insert("calls".to_owned(), calls.into());
        }
        status
    }

    fn now(&self) -> Duration {
        self.clock.now().mono
    }
}

impl Front {
    fn new(settings: Settings) -> Self {
        let json =
            |value: Result<Vec<u8>, serde_json::Error>| Bytes::from(value.expect("lists and schedules have nothing that JSON has not"));
        let schedule = settings.schedule.as_ref().map(|schedule| json(serde_json::to_vec(schedule)));
        Self { key: Key::new(&settings.api_key), probes: json(serde_json::to_vec(&settings.probes)), schedule, settings }
    }
}

/// A connection's place. It is free again when this is dropped.
pub struct Place {
    surface: Arc<Surface>,
    origin: Option<Origin>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.surface.capacity).leave(self.origin);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
