//! Actors that fail in every way, and what the supervisor makes of it: in virtual time where only decisions matter, on real
//! threads where threads do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use actix_rt::System;
use qosd::clock::Clock;
use qosd::measurement::{Row, Value};
use qosd::supervisor::actor::{Notice, View};
use qosd::supervisor::child::{Child, Placement};
use qosd::supervisor::policy::Policy;
use qosd::supervisor::roster::Entry;
use qosd::supervisor::{Check, Fault, Provoke};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::database::{Database, key};
use crate::service::{Service, World, assert_soon, silence_provoked_panics, supervise};

/// How an actor of these tests fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    InFactory,
    FactoryPanics,
    InStarted,
    InStopped,
    InDrop,
    InFuture,
    /// In a future, and again in its end and in its drop: unguarded, that would end the process.
    Thrice,
    Stops,
}

const FAILURES: [Failure; 8] = [
    Failure::InFactory,
    Failure::FactoryPanics,
    Failure::InStarted,
    Failure::InStopped,
    Failure::InDrop,
    Failure::InFuture,
    Failure::Thrice,
    Failure::Stops,
];

/// An actor that does nothing but fail.
struct Failing(Option<Failure>);

impl Actor for Failing {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        match self.0 {
            Some(Failure::InStarted) => panic!("provoked in started"),
            Some(Failure::InFuture | Failure::Thrice) => {
                ctx.run_later(Duration::from_millis(1), |_, _| panic!("provoked in a future"));
            }
            Some(Failure::InStopped | Failure::InDrop | Failure::Stops) => {
                ctx.run_later(Duration::from_millis(1), |_, ctx| ctx.stop());
            }
            _ => {}
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        assert!(!matches!(self.0, Some(Failure::InStopped | Failure::Thrice)), "provoked in stopped");
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        assert!(!matches!(self.0, Some(Failure::InDrop | Failure::Thrice)), "provoked in drop");
    }
}

impl Handler<Check> for Failing {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Provoke> for Failing {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, _: &mut Self::Context) {
        fault.strike();
    }
}

/// Fails in this way at its first `times` starts, and is well from then on.
fn failing(name: &str, policy: Policy, placement: Placement, failure: Failure, times: usize) -> Child {
    let starts = Arc::new(AtomicUsize::new(0));
    Child::new(name, policy, placement, move || {
        let fails = starts.fetch_add(1, Ordering::Relaxed) < times;
        match failure {
            Failure::InFactory if fails => Err("provoked".to_owned()),
            Failure::FactoryPanics if fails => panic!("provoked in a factory"),
            _ => Ok(Failing(fails.then_some(failure))),
        }
    })
}

/// Actors and their supervisor, alone.
struct Ward {
    view: View,
    notices: watch::Receiver<Notice>,
}

impl Ward {
    fn new(children: Vec<Child>) -> Self {
        silence_provoked_panics();
        let view = View::default();
        let (_, notices) = supervise(children, view.clone(), Clock::system());
        Self { view, notices }
    }

    fn actor(&self, name: &str) -> Entry {
        self.view.roster().entries().iter().find(|entry| entry.name == name).unwrap().clone()
    }

    /// Until every actor works and has been restarted this often.
    async fn restarted(&self, times: u64) {
        let restarted = || self.view.roster().all_working() && self.view.roster().entries().iter().all(|entry| entry.restarts == times);
        let all = async {
            while self.view.roster().entries().is_empty() || !restarted() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_mins(1), all).await.is_ok(), "{:?}", self.view.roster());
    }
}

#[test]
fn whatever_way_an_actor_fails_it_comes_back_and_nobody_else_is_touched() {
    for placement in [Placement::Here, Placement::OwnThread] {
        System::new().block_on(async {
            let child = |failure| failing(&format!("{failure:?}"), Policy::PROBE, placement, failure, 2);
            let ward = Ward::new(FAILURES.into_iter().map(child).collect());
            ward.restarted(2).await;
            let said: Vec<String> = FAILURES.iter().map(|failure| ward.actor(&format!("{failure:?}")).last_exit.unwrap()).collect();
            let expected = [
                "could not start: provoked",
                "provoked in a factory",
                "provoked in started",
                "provoked in stopped",
                "stopped",
                "provoked in a future",
                "provoked in a future",
                "stopped",
            ];
            for (said, expected) in said.iter().zip(expected) {
                assert!(said.ends_with(expected), "{said}, expected {expected}");
            }
        });
    }
}

#[test]
fn an_essential_actor_that_keeps_failing_is_escalated_and_a_probe_is_not() {
    System::new().block_on(async {
        tokio::time::pause();
        let child = |name, policy| failing(name, policy, Placement::Here, Failure::InStarted, usize::MAX);
        let mut ward = Ward::new(vec![child("writer", Policy::ESSENTIAL), child("ping", Policy::PROBE)]);
        let escalated = ward.notices.wait_for(|notice| *notice != Notice::Working);
        let notice = tokio::time::timeout(Duration::from_mins(1), escalated).await.expect("within a minute").unwrap().clone();
        let Notice::Escalated(why) = notice else { panic!("{notice:?}") };
        assert!(why.starts_with("writer: panicked at") && why.ends_with("provoked in started"), "{why}");
        assert_eq!(ward.actor("writer").restarts, 5);
        sleep(Duration::from_hours(1)).await;
        let restarts = ward.actor("ping").restarts;
        assert!((110..150).contains(&restarts), "{restarts} restarts in an hour");
        assert_eq!(ward.actor("writer").restarts, 5, "that is for a new process to do");
    });
}

#[test]
fn an_actor_that_answers_but_does_nothing_is_replaced() {
    System::new().block_on(async {
        let database = Database::default();
        let service = Service::start(World::Virtual, &[("toy", FAST), ("other", &other())], &database).await;
        for (actor, other) in [("toy", "writer"), ("writer", "toy")] {
            let (before, other_before) = (service.actor(actor).restarts, service.actor(other).restarts);
            service.provoke(actor, Fault::Freeze).await;
            let since = service.clock.now().mono;
            service.until(|service| service.actor(actor).restarts > before && service.works(actor)).await;
            let away = service.clock.now().mono.saturating_sub(since);
            assert!(away < Duration::from_secs(8), "{actor} was away for {away:?}");
            assert!(service.actor(actor).last_exit.unwrap().starts_with("stuck: no "));
            assert_eq!(service.actor(other).restarts, other_before);
        }
        sleep(Duration::from_secs(20)).await;
        assert_every_slot_has_its_row(&service, &database).await;
        assert_eq!((service.actor("other").restarts, service.view.abandoned()), (0, 0));
    });
}

/// Two series, five slots a second each.
const FAST: &str = "[agent]\nname = \"rome-1\"\n[toy.fast]\ntargets = [\"a\", \"b\"]\ninterval = \"200ms\"\ntakes = \"20ms\"\n";

/// The same of another actor, so that the series are others.
fn other() -> String {
    FAST.replace("toy.fast", "toy.other")
}

/// Stops the service; the rows of the actor `other` that were skipped have to be none.
async fn assert_every_slot_has_its_row(service: &Service, database: &Database) {
    // Only the service itself accounts for what an actor did not come to at the very end, so all have to come to what is due now.
    let now = service.clock.now();
    let due: Vec<u64> = service.slots_by_kind(now).iter().map(|slots| slots.len() as u64).collect();
    service.until(|service| due.iter().zip(service.counts_by_kind()).all(|(due, counts)| counts.scheduled >= *due)).await;
    service.stop().await;
    let (slots, rows) = (service.slots(now), service.rows().await);
    let keys: std::collections::BTreeSet<_> = rows.iter().map(key).collect();
    assert_eq!(keys.len(), rows.len(), "a slot with two rows");
    assert!(slots.is_subset(&keys), "slots without a row: {:?}", slots.difference(&keys).collect::<Vec<_>>());
    assert_eq!(database.keys(), keys.into_iter().collect::<Vec<_>>());
    let skipped = |row: &&Row| row.fields.get("result") == Some(&Value::Text("skipped".to_owned()));
    for row in rows.iter().filter(skipped) {
        assert_eq!(row.series.tag("probe"), Some("fast"), "a slot of another actor was missed");
        assert_eq!(row.fields.get("error"), Some(&Value::Text("restart".to_owned())));
    }
}

#[test]
fn a_hundred_panics_in_an_actor_cost_nobody_else_a_slot_and_each_is_over_soon() {
    System::new().block_on(async {
        let database = Database::default();
        let world = World::Real(Duration::from_millis(20));
        let service = Service::start(world, &[("toy", FAST), ("other", &other())], &database).await;
        for actor in ["toy", "writer"] {
            let mut away = Vec::new();
            for _ in 0..100 {
                away.push(service.panic(actor).await);
                // It has to live for a moment to count as healthy.
                sleep(Duration::from_millis(2)).await;
            }
            assert_soon(actor, &mut away);
        }
        assert_eq!(["toy", "writer", "other"].map(|actor| service.actor(actor).restarts), [100, 100, 0]);
        assert_eq!(service.view.abandoned(), 0);
        assert_every_slot_has_its_row(&service, &database).await;
    });
}

#[test]
fn a_blocked_thread_is_left_behind_counted_and_replaced() {
    System::new().block_on(async {
        let database = Database::default();
        let world = World::Real(Duration::from_millis(20));
        let service = Service::start(world, &[("toy", FAST), ("other", &other())], &database).await;
        let since = service.clock.now().mono;
        for actor in ["toy", "writer"] {
            service.provoke(actor, Fault::Block).await;
        }
        let back = |actor: &str| service.actor(actor).restarts == 1 && service.works(actor);
        service.until(|_| back("toy") && back("writer")).await;
        let away = service.clock.now().mono.saturating_sub(since);
        assert!(away < Duration::from_secs(8), "away for {away:?}");
        assert_eq!((service.view.abandoned(), service.actor("other").restarts), (2, 0));
        assert_eq!(service.actor("toy").last_exit.unwrap(), "stuck: no answer within 5s");
        assert_every_slot_has_its_row(&service, &database).await;
    });
}
