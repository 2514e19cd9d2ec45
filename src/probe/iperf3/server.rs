//! `[iperf3_server]`: a supervised `iperf3 -s` for the tests of others.
//!
//! Promise: it listens on the configured address alone; each client gets a fresh process, which takes nothing over from the
//! one before; whoever connects and says nothing does not keep the others out; and runs that a client's test overlapped say so.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::settings::PORT;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::listeners::{Listeners, Place};
use crate::probe::load::Load;
use crate::settings::KeyProblem;
use crate::supervisor::{Check, Provoke};
use session::{Ended, serve_one};

mod output;
mod session;

/// The longest that the actor's loop sleeps, so that its progress tells that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A server whose loop has not come round for this long makes no progress.
const NO_PROGRESS: Duration = Duration::from_secs(5);
/// A process that listened for this long was healthy.
const HEALTHY: Duration = Duration::from_secs(10);
/// A process that ended sooner is not followed at once, so that nobody can make us start thousands.
const HASTY: Duration = Duration::from_secs(1);
/// Then this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// `[iperf3_server]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    listen: IpAddr,
    port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: Ipv4Addr::LOCALHOST.into(), port: PORT }
    }
}

impl Settings {
    /// Where it listens.
    pub fn place(&self) -> SocketAddr {
        (self.listen, self.port).into()
    }

    /// What is wrong with it.
    pub fn problems(&self) -> Vec<KeyProblem> {
        let none = (self.port == 0).then(|| KeyProblem::new("port", "0 is out of range, allowed is 1 to 65535"));
        let many = self.listen.is_multicast().then(|| KeyProblem::new("listen", format!("{} is a multicast address", self.listen)));
        none.into_iter().chain(many).collect()
    }
}

/// What every incarnation of the server is made of.
#[derive(Clone)]
pub struct ServerParts {
    /// The section, if there is one; a reload sends it anew.
    pub wanted: watch::Receiver<Option<Settings>>,
    /// Where tests of others are noted.
    pub load: Load,
    /// Where is told whether it listens.
    pub listeners: Listeners,
    /// The clocks.
    pub clock: Clock,
    /// Random numbers in `0.0..1.0`, for the back-off.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// The actor. Without the section it idles.
pub struct Server {
    parts: ServerParts,
    progress: Rc<Cell<Duration>>,
    task: Option<SpawnHandle>,
}

impl Server {
    /// A fresh one, for every start.
    pub fn new(parts: ServerParts) -> Self {
        let progress = Rc::new(Cell::new(parts.clock.now().mono));
        Self { parts, progress, task: None }
    }
}

impl Actor for Server {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let serving = live(self.parts.clone(), Rc::clone(&self.progress));
        self.task = Some(ctx.spawn(serving.into_actor(self).map(|(), _, ctx| ctx.stop())));
    }
}

impl Handler<Check> for Server {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        let silent = self.parts.clock.now().mono.saturating_sub(self.progress.get());
        if silent > NO_PROGRESS { Err(format!("nothing was looked at for {silent:?}")) } else { Ok(()) }
    }
}

impl Handler<Provoke> for Server {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, ctx: &mut Self::Context) {
        if let (true, Some(task)) = (fault.strike(), self.task) {
            ctx.cancel_future(task);
        }
    }
}

/// Serves as the config has it. Whatever ends this drops the process, and so kills it; so does the end of qosd, not earlier,
/// as a client in the middle of its test may still be done in time.
async fn live(parts: ServerParts, progress: Rc<Cell<Duration>>) {
    let mut wanted = parts.wanted.clone();
    loop {
        let settings = wanted.borrow_and_update().clone();
        tokio::select! {
            never = serve(settings.as_ref(), &parts) => match never {},
            never = beat(&parts.clock, &progress) => match never {},
            // Without a sender nothing changes any more, and qosd ends.
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

async fn beat(clock: &Clock, progress: &Cell<Duration>) -> Infallible {
    loop {
        progress.set(clock.now().mono);
        sleep(HEARTBEAT).await;
    }
}

/// One process after the other.
async fn serve(settings: Option<&Settings>, parts: &ServerParts) -> Infallible {
    let Some(settings) = settings else { return std::future::pending().await };
    let health = Health::new(settings, &parts.listeners);
    let mut backoff = Backoff::default();
    loop {
        let began = parts.clock.now().mono;
        let ended = serve_one(settings, &parts.load, &health).await;
        let lived = parts.clock.now().mono.saturating_sub(began);
        match ended {
            Ended::Served if lived >= HASTY => backoff.reset(),
            Ended::Served => sleep(PAUSE).await,
            Ended::Failed(why) => {
                if lived >= HEALTHY {
                    backoff.reset();
                }
                health.failed(&why);
                sleep(backoff.fail((parts.random)())).await;
            }
        }
    }
}

/// Says whether the server works. The log is told when it begins to work or fail, and nothing in between: others can make
/// processes end as often as they like.
struct Health<'a> {
    settings: &'a Settings,
    place: Place,
    works: Cell<Option<bool>>,
}

impl<'a> Health<'a> {
    fn new(settings: &'a Settings, listeners: &Listeners) -> Self {
        Self { settings, place: listeners.place("iperf3_server", settings.place()), works: Cell::new(None) }
    }

    /// A process listens. The log is told so the first time, and when it has done so for long enough after a failure.
    fn listens(&self, lived: Duration) {
        let Settings { listen, port } = self.settings;
        self.place.open();
        if self.works.get().is_none() || (self.works.get() == Some(false) && lived >= HEALTHY) {
            self.works.set(Some(true));
            tracing::info!(%listen, port, "iperf3 server listens");
        }
    }

    fn failed(&self, why: &str) {
        let Settings { listen, port } = self.settings;
        self.place.closed(why);
        if self.works.replace(Some(false)) != Some(false) {
            tracing::warn!(%listen, port, why, "iperf3 server does not work, it is tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::Listener;

    #[test]
    fn the_defaults_listen_on_this_host_alone() {
        let settings = Settings::default();
        assert_eq!((settings.listen.is_loopback(), settings.port), (true, 5201));
        assert_eq!(settings.problems(), []);
    }

    #[test]
    fn only_an_address_and_a_port_can_be_listened_on() {
        let wrong = Settings { listen: "224.0.0.1".parse().unwrap(), port: 0 };
        let problems: Vec<_> = wrong.problems().into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
        assert_eq!(problems, ["port: 0 is out of range, allowed is 1 to 65535", "listen: 224.0.0.1 is a multicast address"]);
    }

    #[test]
    fn health_is_told_when_it_changes() {
        let (settings, listeners) = (Settings::default(), Listeners::default());
        let health = Health::new(&settings, &listeners);
        health.failed("port in use");
        health.listens(Duration::ZERO);
        assert_eq!(health.works.get(), Some(false), "the log is not told for a moment after a failure");
        let open = Listener { actor: "iperf3_server".into(), listen: "127.0.0.1:5201".into(), error: None };
        assert_eq!(listeners.all(), [open], "but so it is");
        health.listens(HEALTHY);
        assert_eq!(health.works.get(), Some(true));
        health.failed("port in use");
        assert_eq!(listeners.all()[0].error.as_deref(), Some("port in use"));
    }
}
