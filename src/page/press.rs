//! The press: makes pages, one at a time.
//!
//! Measuring comes first. However many clients ask, pages are made one after the other, over TCP and on the state socket
//! together, so that they leave processors to the threads that measure. Pages that need the disk have a turn of their own, as
//! they wait for it most of the time: one that hangs holds up no overview. Whoever has waited too long for a turn is told to
//! come again. A page that panics costs its own request and no other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::route::Route;
use super::shown::shown;
use super::{Answer, Asked, Sight, api, chart, matrix, metrics, overview, state, target};
use crate::listeners::Listeners;
use crate::measurement::Row;
use crate::supervisor::actor::View;

/// How long a request waits for its turn.
const WAIT: Duration = Duration::from_secs(5);
/// How long a page may take, of which nearly all would be waiting for the journal's disk.
const LONGEST: Duration = Duration::from_secs(8);

/// Bytes of bodies that may be on their way to those who asked, in pieces of [`PIECE`].
const ON_THE_WAY: usize = 16 << 20;
const PIECE: usize = 64 << 10;

/// Makes qosd's own rows, as they are now.
pub type OwnRows = Arc<dyn Fn() -> Vec<Row> + Send + Sync>;

/// Makes pages. Clones share its turns.
#[derive(Clone)]
pub struct Press {
    sight: Sight,
    own: OwnRows,
    actors: View,
    listeners: Listeners,
    /// Of pages made of memory alone, and of those that need the disk.
    turns: [Arc<Semaphore>; 2],
    room: Arc<Semaphore>,
}

impl Press {
    /// Of what there is to be seen.
    pub fn new(sight: Sight, own: OwnRows, actors: View, listeners: Listeners) -> Self {
        Self {
            sight,
            own,
            actors,
            listeners,
            turns: [(); 2].map(|()| Arc::new(Semaphore::new(1))),
            room: Arc::new(Semaphore::new(ON_THE_WAY / PIECE)),
        }
    }

    /// Waits for a turn; none if that takes too long.
    pub(super) async fn turn(&self, route: &Route) -> Option<SemaphorePermit<'_>> {
        let turns = &self.turns[usize::from(route.needs_disk())];
        timeout(WAIT, turns.acquire()).await.ok()?.ok()
    }

    /// Room for a body until it was read, however slowly that is; none while others take all of it. A larger one than there ever
    /// is room for takes all.
    pub(super) fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let pieces = bytes.div_ceil(PIECE).min(ON_THE_WAY / PIECE);
        Arc::clone(&self.room).try_acquire_many_owned(pieces as u32).ok()
    }

    /// Makes the page of a route, whatever happens. To be called by who has the turn.
    pub(super) async fn print(&self, route: &Route, asked: &Asked, openmetrics: bool) -> Answer {
        let page = AssertUnwindSafe(self.page(route, asked, openmetrics)).catch_unwind();
        match timeout(LONGEST, page).await {
            Ok(Ok(answer)) => answer,
            // Where it was stands in the log already.
            Ok(Err(_)) => Answer::refused(500, "this page failed; the log of qosd says where"),
            Err(_) => Answer::refused(503, "the journal takes too long; the overview and the status need no disk"),
        }
    }

    async fn page(&self, route: &Route, asked: &Asked, openmetrics: bool) -> Answer {
        let sight = &self.sight;
        match route {
            Route::Overview => overview::page(sight, asked),
            Route::Target(subject) => target::page(sight, subject, asked).await,
            Route::Mesh => matrix::page(sight, asked),
            Route::Status => state::page(sight, asked),
            Route::Svg(subject) => chart::svg(sight, subject, asked).await,
            Route::Csv(subject) => chart::csv(sight, subject, asked).await,
            Route::Metrics => metrics::exposition(sight, &(self.own)(), openmetrics),
            Route::ApiStatus => api::status(sight),
            Route::ApiSeries => api::series(sight),
            Route::ApiMesh => matrix::document(sight, asked),
            Route::ApiRange(subject) => api::range(sight, subject, asked).await,
            Route::Style | Route::Script | Route::Icon | Route::Healthy | Route::Ready => Answer::refused(404, "there is nothing here"),
        }
    }

    /// Whether every actor works, and listens where it is to; else which do not.
    pub(super) fn ready(&self) -> Answer {
        let roster = self.actors.roster();
        let away = roster.entries().iter().filter(|entry| !entry.works()).map(|entry| entry.name.clone());
        let silent = self.listeners.all().into_iter().filter_map(|listener| {
            let why = listener.error?;
            Some(format!("{} at {}: {}", listener.actor, listener.listen, shown(&why)))
        });
        let away: Vec<_> = away.chain(silent).collect();
        if roster.entries().is_empty() {
            Answer::refused(503, "qosd is starting")
        } else if away.is_empty() {
            Answer::text("ok\n".to_owned())
        } else {
            Answer::refused(503, &format!("not working: {}", away.join(", ")))
        }
    }
}
