//! What an agent knows and what it makes of it. Outlives the actor; no clock, no network.
//!
//! The last good list stands until a better one comes: a collector that is away, or says nonsense, changes nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cache::Known;
use super::client::Fetched;
use super::plan::{Basis, Here, Plan, Unplannable, plan};
use super::rollout::Rollout;
use super::settings::Settings;
use crate::clock::{Moment, Timestamp};
use crate::measurement::{Counter, Field, FieldInfo};
use crate::mesh::list::Taken;
use crate::mesh::schedule::Ping;
use crate::probe::{AnyKind, Assignment};
use crate::settings::units::show_duration;

/// How often the file on disk is written anew although the list is the same, so that its age stays about right.
const KEPT_FOR: Duration = Duration::from_hours(1);

const PEERS: Field<i64> = Field::integer("mesh_peers");
const REFUSED: Field<i64> = Field::integer("mesh_refused");
const STALE: Field<i64> = Field::integer("mesh_stale");
const LOST: Field<i64> = Field::integer("mesh_lost");

/// What is counted of an agent, in rows of measurement `qosd`.
pub const FIELDS: &[FieldInfo] = &[PEERS.info(), REFUSED.info(), STALE.info(), LOST.info()];

/// What is known, and what follows.
#[derive(Default)]
pub struct Standing {
    settings: Option<Settings>,
    known: Option<Known>,
    /// What was out of order in the list as it came.
    taken: Taken,
    /// When what is on disk was fetched.
    saved: Option<Timestamp>,
    from_disk: bool,
    trouble: Option<(String, Timestamp)>,
    plan: Option<Result<Plan, Unplannable>>,
    rollout: Rollout,
}

/// What `qosd status` says of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Where the collector is.
    pub collector: String,
    /// As whom this agent posts.
    pub name: String,
    /// Others that are pinged; a name with both protocols counts twice.
    pub peers: usize,
    /// Whether the agent itself is in the list; none without a list.
    pub listed: Option<bool>,
    /// When the list was last fetched, RFC 3339.
    pub fetched: Option<String>,
    /// How long ago that was.
    pub age_s: Option<f64>,
    /// Whether the collector has not confirmed the list lately: it is that from disk, or the collector is failing.
    pub stale: bool,
    /// Entries of the list that are not measured.
    pub refused: usize,
    /// Why, of the first of them.
    pub refusals: Vec<String>,
    /// From round to round.
    pub interval: String,
    /// Packets in a round that count.
    pub count: u32,
    /// From packet to packet.
    pub spacing: String,
    /// What the schedule asks for, if `max_rate` does not allow it.
    pub asked: Option<String>,
    /// Why nothing can be fetched, or the list cannot be measured.
    pub error: Option<String>,
    /// Since when nothing can be fetched.
    pub since: Option<String>,
    /// Results that the collector said it will never take.
    pub lost: u64,
    /// The last reason for that.
    pub lost_why: Option<String>,
}

impl AgentStatus {
    /// The same as figures.
    pub fn counters(&self) -> Vec<Counter> {
        vec![(PEERS, self.peers as u64), (REFUSED, self.refused as u64), (STALE, u64::from(self.stale)), (LOST, self.lost)]
    }
}

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The collector answers, for the first time or again.
    Answers,
    /// It does not since now, or for another reason than before.
    Failing(String),
    /// Nothing new.
    Nothing,
}

impl Standing {
    /// These settings hold from now on; what another collector said is forgotten.
    pub fn follow(&mut self, settings: Option<&Settings>) {
        let collector = settings.map(|settings| settings.collector.as_str());
        if self.known.as_ref().map(|known| known.collector.as_str()) != collector {
            (self.known, self.taken, self.saved, self.from_disk) = (None, Taken::default(), None, false);
        }
        self.trouble = None;
        self.settings = settings.cloned();
    }

    /// Whether a list is known.
    pub fn has_list(&self) -> bool {
        self.known.is_some()
    }

    /// There was a list on disk.
    pub fn cached(&mut self, known: Known) {
        self.saved = Some(known.fetched);
        (self.known, self.from_disk, self.taken) = (Some(known), true, Taken::default());
    }

    /// A list was fetched.
    pub fn fetched(&mut self, fetched: Fetched, now: Timestamp) -> Told {
        let Some(settings) = &self.settings else { return Told::Nothing };
        let Fetched { mut taken, schedule } = fetched;
        let list = std::mem::take(&mut taken.list);
        let known = Known { collector: settings.collector.to_string(), fetched: now, list, schedule };
        let told = if self.from_disk || self.trouble.is_some() || self.known.is_none() { Told::Answers } else { Told::Nothing };
        let same = self.known.as_ref().is_some_and(|old| old.list == known.list && old.schedule == known.schedule);
        if !same {
            self.saved = None;
        }
        (self.known, self.taken, self.from_disk, self.trouble) = (Some(known), taken, false, None);
        told
    }

    /// What should be on disk, if it is not there; noted as written.
    pub fn to_save(&mut self) -> Option<Known> {
        let known = self.known.as_ref()?;
        if self.saved.is_some_and(|saved| known.fetched.since(saved) < KEPT_FOR) {
            return None;
        }
        self.saved = Some(known.fetched);
        Some(known.clone())
    }

    /// It could not be written after all: the next fetch tries again.
    pub fn not_saved(&mut self) {
        self.saved = None;
    }

    /// Nothing could be fetched.
    pub fn failed(&mut self, why: String, now: Timestamp) -> Told {
        let since = self.trouble.as_ref().map_or(now, |(_, since)| *since);
        let news = self.trouble.as_ref().is_none_or(|(before, _)| *before != why);
        self.trouble = Some((why.clone(), since));
        if news { Told::Failing(why) } else { Told::Nothing }
    }

    /// Plans anew with what is known. Gives the plan if it is another than before.
    pub fn replan(&mut self, agent: &str, here: &Here, kind: &dyn AnyKind, now: Duration) -> Option<&Result<Plan, Unplannable>> {
        let basis = self.settings.as_ref().zip(self.known.as_ref()).map(|(settings, known)| Basis {
            list: &known.list,
            asked: known.schedule.unwrap_or_default().ping,
            name: &settings.name,
            agent,
            max_rate: settings.max_rate,
            here,
        });
        let planned = basis.map(|basis| plan(basis, kind));
        match &planned {
            Some(Ok(plan)) => self.rollout.want(now, plan),
            None => self.rollout.want(now, &Plan::default()),
            // The old one goes on.
            Some(Err(_)) => {}
        }
        let changed = planned != self.plan;
        self.plan = planned;
        self.plan.as_ref().filter(|_| changed)
    }

    /// What is to be measured, if that is something else than before.
    pub fn next(&mut self, now: Duration) -> Option<Vec<Arc<Assignment>>> {
        self.rollout.next(now)
    }

    /// When there is more to be measured, if it is waited for.
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        self.rollout.wake(now)
    }

    /// What the schedule asks for.
    fn asked(&self) -> Ping {
        self.known.as_ref().and_then(|known| known.schedule).unwrap_or_default().ping
    }

    /// For `qosd status`; none without `[mesh]`. `lost` is what the collector did not take.
    pub fn status(&self, now: Moment, (lost, lost_why): (u64, Option<String>)) -> Option<AgentStatus> {
        let settings = self.settings.as_ref()?;
        let nothing = Plan { ping: self.asked(), ..Plan::default() };
        let plan = self.plan.as_ref().and_then(|plan| plan.as_ref().ok()).unwrap_or(&nothing);
        let unplannable = self.plan.as_ref().and_then(|plan| plan.as_ref().err()).map(ToString::to_string);
        let fetched = self.known.as_ref().map(|known| known.fetched);
        let mut refusals = self.taken.refused.clone();
        refusals.extend(plan.refused.iter().cloned());
        refusals.truncate(FEW);
        Some(AgentStatus {
            collector: settings.collector.to_string(),
            name: settings.name.to_string(),
            peers: plan.assignments.len(),
            listed: fetched.map(|_| plan.listed),
            fetched: fetched.map(|fetched| fetched.to_string()),
            age_s: fetched.map(|fetched| now.unix.since(fetched).as_secs_f64()),
            stale: self.from_disk || self.trouble.is_some(),
            refused: self.taken.refused_count + plan.refused_count,
            refusals,
            interval: show_duration(&plan.ping.interval),
            count: plan.ping.count,
            spacing: show_duration(&plan.ping.spacing),
            asked: (plan.ping != self.asked()).then(|| show(&self.asked())),
            error: self.trouble.as_ref().map(|(why, _)| why.clone()).or(unplannable),
            since: self.trouble.as_ref().map(|(_, since)| since.to_string()),
            lost,
            lost_why,
        })
    }
}

/// How many refused entries are shown.
const FEW: usize = 5;

/// A schedule in words.
pub fn show(ping: &Ping) -> String {
    format!("{} packets every {}, {} apart", ping.count, show_duration(&ping.interval), show_duration(&ping.spacing))
}
