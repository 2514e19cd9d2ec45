//! Where posts go: the rows into the journal, what came and what did not into the presence. Shared by all that serves.
//!
//! The promise: a post is answered when it is durable, or within [`LONGEST`] with an error; then it may come again, and is
//! stored once if it says of which slot it is. What was answered with an error and becomes durable all the same counts as
//! received from then on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::presence::{Absent, Presence, SETTLING};
pub use super::rows::Rejected;
use super::rows::{self, Sorted};
use super::settings::Settings;
use super::status::{self, CollectorStatus, Counts, SourceStatus};
use crate::clock::{Clock, Moment, Timestamp};
use crate::journal::{Fate, Fates, Journal, JournalError};
use crate::measurement::Row;
use crate::mesh::list::{List, Name, Proto};
use crate::mesh::wire::{Item, Received};

/// The longest that a post waits to become durable.
pub const LONGEST: Duration = Duration::from_secs(8);
/// Pairs looked at while nobody else can use the state.
const SLICE: usize = 10_000;
/// As many of these at most, each time that [`Store::absent`] is called.
const SLICES: usize = 20;
/// While so many rows wait for the disk, none are added for results that did not come.
const MOST_WAITING: u64 = 20_000;

/// What a post brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Results that are durable and were not before.
    pub stored: usize,
    /// Items whose target is not in the list.
    pub rejected: Vec<Rejected>,
}

/// Why a post was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Who posts is not in the list.
    #[error("{0} is not in the list of probes")]
    UnknownSource(Name),
    /// It is not known to be durable, and may come again.
    #[error("the results cannot be stored now")]
    NotDurable(#[from] JournalError),
}

/// Told of every row, and of the protocol, which not all rows tell.
pub type Observe = Arc<dyn Fn(&Row, Proto) + Send + Sync>;

/// What outlives the servers of a collector.
pub struct Store {
    journal: Journal,
    clock: Clock,
    observe: Observe,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The list and the interval; none = this is no collector now.
    configured: Option<(List, Duration)>,
    names: Arc<HashSet<Name>>,
    presence: Presence,
    sources: HashMap<Name, Source>,
    /// Posts whose rows are not all decided.
    pending: Vec<Pending>,
    counts: Counts,
}

/// What is known of who posts.
#[derive(Default)]
struct Source {
    last: Option<Last>,
    /// The times that the rows of its last posts have, from the first to the last.
    used: Option<(Timestamp, Timestamp)>,
}

struct Last {
    time: Timestamp,
    items: Vec<Item>,
}

struct Pending {
    source: Name,
    time: Timestamp,
    items: Vec<Item>,
    fates: Arc<Fates>,
}

impl Store {
    /// Not a collector until it is configured. `observe` is told of every row, just before it goes into the journal.
    pub fn new(journal: Journal, clock: Clock, observe: Observe) -> Self {
        Self { journal, clock, observe, state: Mutex::default() }
    }

    /// Takes the list and the schedule, at the start and from a reload; none = this is no collector.
    pub fn configure(&self, settings: Option<&Settings>) {
        let now = self.clock.now();
        let mut state = self.state();
        let interval = |settings: &Settings| settings.schedule.unwrap_or_default().ping.interval;
        let new = settings.map(|settings| (settings.probes.clone(), interval(settings)));
        if state.configured == new {
            return;
        }
        let (list, interval) = new.clone().unwrap_or_default();
        state.names = Arc::new(list.probes.iter().map(|peer| peer.name.clone()).collect());
        state.presence.expect(&list, interval, SETTLING + interval, now.mono);
        let names = Arc::clone(&state.names);
        state.sources.retain(|name, _| names.contains(name));
        state.configured = new;
    }

    /// Takes a post, of which slot if it says so. Returns when it is durable.
    pub async fn receive(&self, received: Received, slot: Option<Timestamp>) -> Result<Receipt, ReceiveError> {
        let source = received.source.clone();
        let (names, time) = self.begin(&received)?;
        let Sorted { accepted, rejected, unreadable } = rows::sort(received, |name| names.contains(name), time);
        self.state().counts.rejected += (rejected.len() + unreadable) as u64;
        if accepted.is_empty() {
            return Ok(Receipt { stored: 0, rejected });
        }
        let durable = match self.hand_over(&source, time, accepted, slot) {
            Ok(fates) => self.durable(&fates).await,
            Err(error) => Err(error),
        };
        let mut state = self.state();
        state.settle(self.clock.now());
        match durable {
            Ok(stored) => Ok(Receipt { stored, rejected }),
            Err(error) => {
                state.counts.not_durable += 1;
                Err(error.into())
            }
        }
    }

    /// What a source posted last, as far as it is durable; since the start of this process.
    pub fn last(&self, name: &Name) -> Option<serde_json::Value> {
        let state = self.state();
        let last = state.sources.get(name)?.last.as_ref()?;
        Some(serde_json::json!({ "source": name, "time": last.time, "probes": last.items }))
    }

    /// Appends a row for each result that should have come and did not. To be called about every second.
    pub fn absent(&self) {
        self.state().settle(self.clock.now());
        for _ in 0..SLICES {
            if self.journal.stats().waiting > MOST_WAITING {
                return;
            }
            let found = {
                let now = self.clock.now();
                let mut state = self.state();
                let found = state.presence.overdue(now, SLICE);
                state.counts.absent += found.absent.len() as u64;
                found
            };
            let row = |absent: &Absent| {
                let row = rows::absent(&absent.source, &absent.target, absent.proto, absent.time);
                (self.observe)(&row, absent.proto);
                row
            };
            self.journal.append(found.absent.iter().map(row).collect());
            if !found.more {
                return;
            }
        }
    }

    /// What is counted since the start; none if this is no collector.
    pub fn counts(&self) -> Option<Counts> {
        let state = self.state();
        state.configured.as_ref().map(|_| state.counts())
    }

    /// How the mesh is; none if this is no collector.
    pub fn status(&self) -> Option<CollectorStatus> {
        let now = self.clock.now().unix;
        let state = self.state();
        let (listed, interval) = state.configured.as_ref()?;
        let mut protos: HashMap<&Name, Vec<Proto>> = HashMap::new();
        for peer in &listed.probes {
            protos.entry(&peer.name).or_default().push(peer.proto);
        }
        let source = |name: &Name| {
            let last = state.sources.get(name).and_then(|source| source.last.as_ref());
            SourceStatus {
                name: name.to_string(),
                protos: protos.get(name).cloned().unwrap_or_default(),
                age_s: last.map(|last| now.since(last.time).as_secs_f64()),
                results: last.map_or(0, |last| last.items.len()),
                absent: state.presence.absent_of(name),
            }
        };
        let mut sources: Vec<_> = state.names.iter().map(source).collect();
        status::sort(&mut sources);
        Some(CollectorStatus {
            probes: state.names.len(),
            interval_s: interval.as_secs_f64(),
            expected: state.presence.expected(),
            absent_now: sources.iter().map(|source| source.absent).sum(),
            counts: state.counts(),
            sources,
        })
    }

    /// Whom a post may be about, and the time of its rows.
    fn begin(&self, received: &Received) -> Result<(Arc<HashSet<Name>>, Timestamp), ReceiveError> {
        let now = self.clock.now().unix;
        let mut state = self.state();
        if !state.names.contains(&received.source) {
            return Err(ReceiveError::UnknownSource(received.source.clone()));
        }
        state.counts.posts += 1;
        let time = state.sources.entry(received.source.clone()).or_default().reserve(now, received.items.len());
        Ok((Arc::clone(&state.names), time))
    }

    /// Gives the rows to the journal. From here on they may become durable, whoever waits for it.
    fn hand_over(
        &self,
        source: &Name,
        time: Timestamp,
        accepted: Vec<(Item, Row)>,
        slot: Option<Timestamp>,
    ) -> Result<Arc<Fates>, JournalError> {
        let (items, rows): (Vec<_>, Vec<_>) = accepted.into_iter().unzip();
        for (item, row) in items.iter().zip(&rows) {
            (self.observe)(row, item.proto);
        }
        let receipts = items.iter().map(|item| slot.map(|slot| rows::receipt(source, item, slot)));
        let fates = self.journal.receive(rows.into_iter().zip(receipts).collect())?;
        self.state().pending.push(Pending { source: source.clone(), time, items, fates: Arc::clone(&fates) });
        Ok(fates)
    }

    /// Waits until the rows are durable. Says how many are new.
    async fn durable(&self, fates: &Fates) -> Result<usize, JournalError> {
        let flushed = tokio::time::timeout(LONGEST, self.journal.flush()).await;
        flushed.map_err(|_| JournalError::Failing("the disk takes too long".to_owned()))??;
        if fates.iter().any(|fate| !matches!(fate, Some(Fate::Stored | Fate::Known))) {
            return Err(JournalError::Failing("memory for rows was full".to_owned()));
        }
        Ok(fates.iter().filter(|fate| *fate == Some(Fate::Stored)).count())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes the posts of which it is known by now what became of them.
    fn settle(&mut self, now: Moment) {
        for post in self.pending.extract_if(.., |post| post.fates.are_decided()).collect::<Vec<_>>() {
            let mut items = Vec::new();
            for (item, fate) in post.items.into_iter().zip(post.fates.iter()) {
                match fate {
                    Some(Fate::Stored) => items.push(item),
                    Some(Fate::Known) => self.counts.duplicates += 1,
                    Some(Fate::Lost) | None => {}
                }
            }
            self.counts.stored += items.len() as u64;
            for item in &items {
                self.presence.heard(&post.source, &item.name, item.proto, now.mono);
            }
            // One that is no longer in the list is not noted.
            if let Some(source) = self.sources.get_mut(&post.source).filter(|_| !items.is_empty()) {
                source.last = Some(Last { time: post.time, items });
            }
        }
    }

    fn counts(&self) -> Counts {
        Counts { passed_over: self.presence.passed_over(), ..self.counts }
    }
}

impl Source {
    /// A time from which on the rows of so many items have times of their own.
    fn reserve(&mut self, now: Timestamp, items: usize) -> Timestamp {
        let more = Duration::from_nanos(items as u64);
        match &mut self.used {
            Some((from, to)) if *from <= now && now <= *to => {
                let time = to.plus(Duration::from_nanos(1));
                *to = time.plus(more);
                time
            }
            used => {
                *used = Some((now, now.plus(more)));
                now
            }
        }
    }
}
