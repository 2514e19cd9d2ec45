//! What happened to a target, in words. Pure.

use super::Seen;
use crate::clock::Timestamp;
use crate::history::range::What;
use crate::measurement::Series;
use crate::page::shown::{Shown, shown};
use crate::page::words;

/// Something that happened.
pub(super) struct Happened {
    /// As in the charts of its series.
    pub(super) number: usize,
    pub(super) time: String,
    pub(super) series: Shown,
    pub(super) what: Shown,
}

/// All that is known, the latest first.
pub(super) fn all(seen: &[Seen]) -> Vec<Happened> {
    let known = seen.iter().filter_map(|(series, range)| Some((series, range.as_ref().ok()?)));
    let mut all: Vec<(Timestamp, usize, &Series, &What)> = known
        .flat_map(|(series, range)| range.events.iter().zip(1..).map(move |(event, number)| (event.time, number, series, &event.what)))
        .collect();
    all.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
    let happened = |(time, number, series, what): (Timestamp, usize, &Series, &What)| Happened {
        number,
        time: words::time(time),
        series: shown(&super::group::label(series)),
        what: shown(&say(what)),
    };
    all.into_iter().map(happened).collect()
}

fn say(what: &What) -> String {
    match what {
        What::AddressChanged { from, to } => format!("the address changed from {from} to {to}"),
        What::Lost(outcome) => format!("no run got through from here on: {outcome}"),
        What::Back => "a run got through again".to_owned(),
        What::Skipped(reason) => format!("slots were skipped: {reason}"),
        What::ClockStep(by) => {
            let way = if *by < 0.0 { "back" } else { "forwards" };
            format!("the clock was set {way} by {} ms", words::number(by.abs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::range::{Event, Range, Span};
    use crate::probe::Outcome;
    use crate::status::testing::{at, series};

    #[test]
    fn what_happened_is_told_in_words_and_the_latest_first() {
        let range = |events: Vec<(i64, What)>| Range {
            events: events.into_iter().map(|(time, what)| Event { time: at(time), what }).collect(),
            ..Range::empty(Span { from: at(0), to: at(100) })
        };
        let one = range(vec![(1, What::Lost(Outcome::Timeout)), (5, What::Back), (6, What::ClockStep(-2_500.0))]);
        let other = range(vec![
            (3, What::AddressChanged { from: "192.0.2.1".into(), to: "192.0.2.2".into() }),
            (4, What::Skipped("restart".into())),
        ]);
        let all = all(&[(series("a"), Ok(one)), (series("b"), Ok(other))]);
        assert_eq!(all.iter().map(|event| event.number).collect::<Vec<_>>(), [3, 2, 2, 1, 1], "as in the charts");
        let told: Vec<_> = all.iter().map(|event| event.what.to_string()).collect();
        assert_eq!(
            told,
            [
                "the clock was set back by 2500 ms",
                "a run got through again",
                "slots were skipped: restart",
                "the address changed from 192.0.2.1 to 192.0.2.2",
                "no run got through from here on: timeout",
            ]
        );
    }
}
