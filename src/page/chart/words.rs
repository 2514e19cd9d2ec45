//! What a chart shows, in sentences: for who does not see it, and for who wants to know it exactly. Pure.

use std::fmt::Write;
use std::time::Duration;

use super::Chart;
use super::axis::{seconds, spell};
use super::cells::is_hole;
use super::shapes::{PHASES, Shape, part};
use super::text::{figure, plain};
use crate::clock::Timestamp;
use crate::history::range::{Column, Event, Lacking, Range, Span, Spread, What};
use crate::probe::{Outcome, Says};

/// The most events that are told one by one.
const MOST_EVENTS: usize = 10;
/// The longest text of others in a sentence.
const LONGEST: usize = 80;

/// All that there is to be said.
pub(super) fn words(chart: &Chart, range: &Range) -> String {
    let span = spell(range.span);
    let lacking = range.lacking.as_ref().map(|lacking| format!(" {}", lacks(lacking))).unwrap_or_default();
    if range.columns.is_empty() {
        let so_far = if lacking.is_empty() { "" } else { " so far" };
        return format!("{span}: no rows{so_far}.{lacking}{}", events(&range.events));
    }
    let rows = total(range, |_| true);
    let mut told = format!("{span}, {rows} {}.", plural(rows, "row", "rows"));
    told.push_str(&lacking);
    told.push_str(&figures(chart, &range.columns));
    match chart.shape() {
        Shape::Smoke(loss) => told.push_str(&loss_of(loss, &range.columns)),
        Shape::Phases => told.push_str(&phases(chart.field, &range.columns)),
        Shape::Loss | Shape::Lines(_) => {}
    }
    told.push_str(&failures(range));
    told.push_str(&holes(range));
    told.push_str(&events(&range.events));
    told
}

/// What is not there yet, in a sentence.
pub(super) fn lacks(lacking: &Lacking) -> String {
    let Lacking { rows, from, to, why } = lacking;
    let of = spell(Span { from: *from, to: *to });
    let (rows, is) = if *rows == 1 { ("1 row".to_owned(), "is") } else { (format!("{rows} rows"), "are") };
    match why {
        None => format!("Not complete: {rows} of the journal, of about {of}, {is} not in the history yet."),
        Some(why) => format!("Not complete: {rows} of the journal, of about {of}, {is} not in the history: {}.", plain(why, LONGEST)),
    }
}

fn figures(chart: &Chart, columns: &[Column]) -> String {
    let spreads: Vec<&Spread> = columns.iter().filter_map(|column| column.figure(chart.field)).collect();
    let Some(middle) = quantile(&spreads, 50) else {
        return format!(" None of them has {}.", chart.field);
    };
    let (low, high) = (quantile(&spreads, 10).unwrap_or(middle), quantile(&spreads, 90).unwrap_or(middle));
    let min = spreads.iter().map(|spread| spread.min).fold(f64::INFINITY, f64::min);
    let max = spreads.iter().map(|spread| spread.max).fold(f64::NEG_INFINITY, f64::max);
    let unit = chart.unit;
    let [middle, low, high, min, max] = [middle, low, high, min, max].map(figure);
    format!(" Median {middle} {unit}, 10–90 % of the rows {low}–{high} {unit}, smallest {min} {unit}, largest {max} {unit}.")
}

/// Of a row its median counts. Of several, which a column does not tell one by one, a fifth counts as at its 10 %, three
/// fifths as at its median, and a fifth as at its 90 %.
fn quantile(spreads: &[&Spread], per_cent: u64) -> Option<f64> {
    let counted = |spread: &&Spread| {
        let rows = u64::from(spread.rows.max(1));
        if rows > 1 {
            [(spread.low, rows), (spread.median, 3 * rows), (spread.high, rows)]
        } else {
            [(spread.median, 5), (0.0, 0), (0.0, 0)]
        }
    };
    let mut figures: Vec<(f64, u64)> = spreads.iter().flat_map(counted).filter(|(_, count)| *count > 0).collect();
    figures.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rank = (figures.iter().map(|(_, count)| count).sum::<u64>() * per_cent).div_ceil(100).max(1);
    let mut passed = 0;
    figures.into_iter().find_map(|(figure, count)| {
        passed += count;
        (passed >= rank).then_some(figure)
    })
}

/// The mean over all rows that have it.
fn mean(columns: &[Column], field: &str) -> Option<f64> {
    let spreads = || columns.iter().filter_map(|column| column.figure(field)).map(|spread| (spread.mean, f64::from(spread.rows.max(1))));
    let rows: f64 = spreads().map(|(_, rows)| rows).sum();
    // Shares are added up, not rows: no sum becomes too large.
    (rows > 0.0).then(|| spreads().map(|(mean, own)| mean * (own / rows)).sum::<f64>().clamp(f64::MIN, f64::MAX))
}

fn loss_of(field: &str, columns: &[Column]) -> String {
    mean(columns, field).map_or_else(String::new, |loss| format!(" Packet loss {} % on average.", figure(loss)))
}

/// As in the drawing: so that they add up to the mean of the whole.
fn phases(field: &str, columns: &[Column]) -> String {
    let rows: f64 = columns.iter().filter_map(|column| column.figure(field)).map(|whole| f64::from(whole.rows.max(1))).sum();
    let mean = |phase: &str| {
        let both = columns.iter().filter_map(|column| column.figure(field).zip(column.figure(phase)));
        let parts: Vec<_> = both.map(|(whole, phase)| part(whole, phase) * (f64::from(whole.rows.max(1)) / rows)).collect();
        (!parts.is_empty()).then(|| parts.into_iter().sum::<f64>().clamp(f64::MIN, f64::MAX))
    };
    let names = ["DNS", "connect", "TLS", "first byte", "transfer"];
    let told = PHASES.iter().zip(names).filter_map(|(phase, name)| Some(format!("{name} {} ms", figure(mean(phase)?))));
    let told: Vec<_> = told.collect();
    if told.is_empty() { String::new() } else { format!(" On average: {}.", told.join(", ")) }
}

/// How many runs failed and how many were not made, by reason.
fn failures(range: &Range) -> String {
    let mut told = String::new();
    for (what, begin) in [(Says::Failed, "failed"), (Says::Nothing, "not measured")] {
        let reasons = Outcome::ALL.into_iter().filter(|outcome| outcome.says() == what);
        let reasons: Vec<_> =
            reasons.map(|outcome| (outcome, total(range, |found| found == outcome))).filter(|(_, rows)| *rows > 0).collect();
        let rows: u64 = reasons.iter().map(|(_, rows)| rows).sum();
        if rows > 0 {
            let by: Vec<_> = reasons.iter().map(|(outcome, rows)| format!("{rows} {}", spoken(*outcome))).collect();
            // Memory takes whatever is written.
            let _ = write!(told, " {rows} {begin} ({}).", by.join(", "));
        }
    }
    told
}

fn spoken(outcome: Outcome) -> String {
    outcome.name().replace('_', " ")
}

fn total(range: &Range, is: impl Fn(Outcome) -> bool) -> u64 {
    range.columns.iter().flat_map(|column| &column.outcomes).filter(|(outcome, _)| is(*outcome)).map(|(_, rows)| u64::from(*rows)).sum()
}

/// Times of which there is no row at all, at the ends of the span, too; but for those in which nobody looked yet.
fn holes(range: &Range) -> String {
    let step = range.step.as_secs_f64();
    let is_seen = |from, to| range.lacking.as_ref().is_none_or(|lacking| lacking.within(Span { from, to }).is_none());
    let ends = |index: usize| (range.columns[index - 1].start, range.columns[index].start);
    let between = (1..range.columns.len()).filter(|index| is_hole(range, *index)).map(ends).filter(|(from, to)| is_seen(*from, *to));
    let mut holes: Vec<f64> = between.map(|(from, to)| seconds(from, to) - step).collect();
    let (first, last) = (range.columns.first().map(|first| first.start), range.columns.last().map(|last| last.start));
    let before = first.filter(|first| is_seen(range.span.from, *first)).map_or(0.0, |first| seconds(range.span.from, first));
    let after = last.filter(|last| is_seen(*last, range.span.to)).map_or(0.0, |last| seconds(last, range.span.to)) - step;
    // The slot that is being run has no row yet.
    holes.extend([before, after].into_iter().filter(|hole| *hole > 1.5 * step));
    let length = Duration::try_from_secs_f64(holes.iter().sum::<f64>().max(0.0)).unwrap_or_default();
    match holes.len() {
        0 => String::new(),
        count => format!(" {count} {} without any row, {} in all.", plural(count as u64, "time", "times"), span(length)),
    }
}

/// A duration to the second, in its two largest units.
fn span(length: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(length.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn events(events: &[Event]) -> String {
    let mut told = String::new();
    for (event, number) in events.iter().zip(1..).take(MOST_EVENTS) {
        // Memory takes whatever is written.
        let _ = write!(told, " Event {number}, {} UTC: {}.", second(event.time), happened(&event.what));
    }
    match events.len().saturating_sub(MOST_EVENTS) {
        0 => told,
        more => format!("{told} {more} more events."),
    }
}

/// What happened, as the second half of a sentence.
pub fn happened(what: &What) -> String {
    match what {
        What::AddressChanged { from, to } => {
            format!("the address changed from {} to {}", plain(from, LONGEST), plain(to, LONGEST))
        }
        What::Lost(outcome) => format!("no run succeeded any more ({})", spoken(*outcome)),
        What::Back => "a run succeeded again".to_owned(),
        What::Skipped(reason) => format!("slots were skipped ({})", plain(reason, LONGEST)),
        What::ClockStep(ms) => format!("the wall clock was stepped by {} ms", figure(*ms)),
    }
}

fn second(time: Timestamp) -> String {
    time.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

fn plural<'a>(count: u64, one: &'a str, more: &'a str) -> &'a str {
    if count == 1 { one } else { more }
}
