//! What every chart has beside its figures: what was loaded, lost, not measured, and what happened.

use plotters::style::RGBColor;

use super::axis::seconds;
use super::cells::{Cell, count, stretches};
use super::legend::Key;
use super::palette::{EVENT, GAP, LOADED, LOSS_HIGH, LOSS_LOW, LOSS_MID, UNSEEN, of_loss};
use super::plot::{Painted, Plot};
use crate::history::range::{Column, Event, Range, Span};
use crate::probe::Says;

/// How high the strip at the foot of the plot is, as a share of it.
const STRIP: f64 = 0.036;
/// The same, in tenths of a pixel.
const STRIP_TENTHS: i32 = 58;
/// Events nearer than this share of the axis share a sign.
const TOGETHER: f64 = 0.03;

/// What lies behind all else: times with a throughput test, and times of which nothing is known because nothing was measured.
pub(super) fn behind(plot: &Plot<'_>, cells: &[Cell<'_>]) -> Painted {
    for (from, to, ()) in stretches(cells, |column| (column.loaded > 0).then_some(())) {
        plot.span((from, to), (0.0, 1.0), LOADED)?;
    }
    for (from, to, ()) in stretches(cells, |column| is_blank(column).then_some(())) {
        plot.span((from, to), (0.0, 1.0), GAP)?;
    }
    Ok(())
}

/// Where nobody looked yet: behind even that.
pub(super) fn unseen(plot: &Plot<'_>, range: &Range) -> Painted {
    let Some(part) = part_unseen(range) else { return Ok(()) };
    let ends = (seconds(range.span.from, part.from), seconds(range.span.from, part.to));
    plot.span(ends, (0.0, 1.0), UNSEEN)
}

/// The part of a range in which nobody looked yet.
pub(super) fn part_unseen(range: &Range) -> Option<Span> {
    range.lacking.as_ref()?.within(range.span)
}

/// The strip at the foot: where runs failed altogether, in the colour of how many; else where some were not measured.
pub(super) fn strip(plot: &Plot<'_>, cells: &[Cell<'_>]) -> Painted {
    for (from, to, colour) in stretches(cells, at_the_foot) {
        // A line, as an area of some of these colours is hatched, which nobody sees in a strip.
        let middle = plot.top * STRIP / 2.0;
        plot.line(vec![(from, middle), (to, middle)], colour, STRIP_TENTHS)?;
    }
    Ok(())
}

fn at_the_foot(column: &Column) -> Option<RGBColor> {
    let (answered, failed) = (count(column, Says::Answered), count(column, Says::Failed));
    match (answered, failed) {
        (0, 0) => None,
        (0, _) => Some(LOSS_HIGH),
        (_, 0) => (count(column, Says::Nothing) > 0).then_some(GAP),
        _ => Some(of_loss(100.0 * f64::from(failed) / (f64::from(answered) + f64::from(failed)))),
    }
}

fn is_blank(column: &Column) -> bool {
    count(column, Says::Nothing) > 0 && count(column, Says::Answered) == 0 && count(column, Says::Failed) == 0
}

/// A line for each event, with the number that it has in the words.
pub(super) fn events(plot: &Plot<'_>, span: Span, events: &[Event]) -> Painted {
    let mut signs: Vec<(f64, usize, usize)> = Vec::new();
    for (event, number) in events.iter().zip(1..) {
        let time = seconds(span.from, event.time).clamp(0.0, plot.end);
        plot.line(vec![(time, 0.0), (time, plot.top)], EVENT, 10)?;
        match signs.last_mut().filter(|(first, ..)| time - *first < plot.end * TOGETHER) {
            Some((_, _, last)) => *last = number,
            None => signs.push((time, number, number)),
        }
    }
    for (time, first, last) in signs {
        let sign = if first == last { first.to_string() } else { format!("{first}–{last}") };
        plot.above(time, sign, EVENT)?;
    }
    Ok(())
}

/// What the legend has to say of these layers, as far as there is any of them. `has_loss`: that it tells the colours of loss.
pub(super) fn keys(cells: &[Cell<'_>], range: &Range, has_loss: bool) -> Vec<Key> {
    let any = |is: &dyn Fn(&Column) -> bool| cells.iter().any(|cell| is(cell.column));
    let mut keys = Vec::new();
    let failed = [(LOSS_LOW, "≤ 5 % failed"), (LOSS_MID, "≤ 25 % failed"), (LOSS_HIGH, "more failed")];
    keys.extend(failed.into_iter().filter(|(colour, _)| !has_loss && any(&|column| at_the_foot(column) == Some(*colour))));
    if any(&is_blank) || any(&|column| at_the_foot(column) == Some(GAP)) {
        keys.push((GAP, "not measured"));
    }
    if any(&|column| column.loaded > 0) {
        keys.push((LOADED, "under load"));
    }
    if part_unseen(range).is_some() {
        keys.push((UNSEEN, "not in the history yet"));
    }
    if !range.events.is_empty() {
        keys.push((EVENT, "event"));
    }
    keys
}
