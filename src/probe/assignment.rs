//! What one series is to do, and when. Made from the config by its kind, equal if nothing about it changed.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Cost;
use super::schedule::Schedule;
use crate::measurement::Series;

/// What one series is to do, and when: made from the config by its kind, unchanged until the next reload.
pub struct Assignment {
    /// What the rows are about.
    pub series: Series,
    /// The kind, a name of [`super::KINDS`].
    pub kind: &'static str,
    /// When its slots are.
    pub schedule: Schedule,
    /// The longest that a run may take, from its slot to its row.
    pub longest: Duration,
    /// How long after its slot a run begins, so that many series can share their slots without sending all at once.
    pub offset: Duration,
    /// What it costs.
    pub cost: Cost,
    job: Arc<dyn AnyJob>,
}

impl Assignment {
    /// What a kind has planned.
    pub fn new<J: PartialEq + Send + Sync + 'static>(kind: &'static str, planned: Planned<J>) -> Self {
        let Planned { series, schedule, longest, cost, job } = planned;
        Self { series, kind, schedule, longest, offset: Duration::ZERO, cost, job: Arc::new(job) }
    }

    /// The job, for the kind that made it.
    pub fn job<J: Send + Sync + 'static>(&self) -> Option<Arc<J>> {
        Arc::clone(&self.job).any().downcast().ok()
    }
}

/// Equal assignments need no restart: the same series, at the same times, doing the same.
impl PartialEq for Assignment {
    fn eq(&self, other: &Self) -> bool {
        let times = |of: &Self| (of.schedule, of.longest, of.offset);
        self.series == other.series && times(self) == times(other) && self.job.same(&*other.job)
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} every {:?}", self.series, self.schedule.interval())
    }
}

trait AnyJob: Send + Sync {
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn as_any(&self) -> &dyn Any;
    fn same(&self, other: &dyn AnyJob) -> bool;
}

impl<J: PartialEq + Send + Sync + 'static> AnyJob for J {
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn same(&self, other: &dyn AnyJob) -> bool {
        other.as_any().downcast_ref::<J>() == Some(self)
    }
}

/// One series as a kind plans it; the kind's name and the job's type are added by the seam.
pub struct Planned<J> {
    /// What the rows are about; see [`super::Naming::series`].
    pub series: Series,
    /// When its slots are.
    pub schedule: Schedule,
    /// The longest that a run may take, from its slot to its row.
    pub longest: Duration,
    /// What it costs.
    pub cost: Cost,
    /// What a run does.
    pub job: J,
}
