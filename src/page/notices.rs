//! What somebody has to know whatever page they look at: a config that was refused, outputs and a journal that fail, an
//! address that cannot be had. Pure.

use super::shown::{Shown, shown};
use crate::status::report::Report;

/// One of them.
pub(super) struct Notice {
    /// What is the matter, in a few words.
    pub(super) what: String,
    /// What was said about it.
    pub(super) why: Shown,
}

/// All there are, what loses data first.
pub(super) fn notices(report: &Report) -> Vec<Notice> {
    let notice = |what: &str, why: &str| Notice { what: what.to_owned(), why: shown(why) };
    let journal = report.journal.failing.iter().map(|why| notice("The journal takes nothing, rows wait in memory", why));
    let lost = (report.queue_dropped > 0).then(|| notice("Rows were lost", &format!("{} that no writer took", report.queue_dropped)));
    let config = report.config.problem.iter().map(|why| notice("The last reload of the config was refused, the old one goes on", why));
    let output = report.outputs.iter().filter_map(|output| {
        let why = output.last_error.as_ref()?;
        Some(notice(&format!("Output {} takes nothing, {} rows wait", shown(&output.name), output.pending), why))
    });
    let dead = report.outputs.iter().filter(|output| output.dead > 0).map(|output| {
        let what = format!("{} rows were refused by output {} and wait as dead letters", output.dead, shown(&output.name));
        notice(&what, output.last_refusal.as_deref().unwrap_or("qosd export --dead-letters shows them"))
    });
    let at_work = ["running", "idle", "degraded"];
    let actor = report.actors.iter().filter(|actor| !at_work.contains(&&*actor.state)).map(|actor| {
        notice(
            &format!("{} is {}", shown(&actor.name), shown(&actor.state)),
            actor.last_exit.as_deref().unwrap_or("it was not at work yet"),
        )
    });
    let silent = report.listeners.iter().filter_map(|listener| {
        let what = format!("{} cannot listen at {}", shown(&listener.actor), shown(&listener.listen));
        Some(notice(&what, listener.error.as_ref()?))
    });
    let mesh = report.mesh.iter().filter_map(|mesh| Some(notice("The collector of the mesh is failing", mesh.error.as_ref()?)));
    journal.chain(lost).chain(config).chain(output).chain(dead).chain(actor).chain(silent).chain(mesh).collect()
}
