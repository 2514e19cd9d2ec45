//! The figures of a chart, in the shape that suits them: smoke, a line with its spread, loss, phases.

use plotters::style::RGBColor;

use super::cells::{Cell, pieces, steps, stretches};
use super::legend::Key;
use super::palette::{BAND, CONNECT, DNS, FIRST_BYTE, LITTLE, LOSS_HIGH, LOSS_LOW, LOSS_MID, MEDIAN, SHADE, TEXT, TLS, TRANSFER, of_loss};
use super::plot::{Painted, Plot};
use super::scale;
use crate::history::range::{Column, Spread};

/// How a chart shows its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The spread as smoke, the median above it in the colour of the loss in this field.
    Smoke(&'static str),
    /// The spread, the median; and further fields as lines.
    Lines(&'static [&'static str]),
    /// Per cent, as columns.
    Loss,
    /// What a whole is made of, stacked.
    Phases,
}

/// The phases of an HTTP request, in their order.
pub(super) const PHASES: [&str; 5] = ["http_dns_ms", "http_connect_ms", "http_tls_ms", "http_first_byte_ms", "http_transfer_ms"];
const PHASE_KEYS: [Key; 5] = [(DNS, "DNS"), (CONNECT, "connect"), (TLS, "TLS"), (FIRST_BYTE, "first byte"), (TRANSFER, "transfer")];
/// The colours of lines beside the first.
const OTHERS: [RGBColor; 2] = [TLS, CONNECT];
/// The most columns whose sums have an edge.
const EDGED: usize = 200;
/// The least length of a line of loss, as a share of the axis.
const WIDE: f64 = 0.004;
/// A loss that is there can be seen, in per cent.
const LEAST: f64 = 1.5;

/// How high the plot has to be.
pub(super) fn top(shape: Shape, field: &str, columns: &[Column]) -> f64 {
    let of = |field: &'static str| columns.iter().filter_map(move |column| column.figure(field));
    let own = || columns.iter().filter_map(|column| column.figure(field));
    match shape {
        Shape::Loss => 100.0,
        Shape::Phases => scale::top(own().map(|spread| spread.mean), []),
        Shape::Smoke(_) => scale::top(own().map(|spread| spread.max), own().map(|spread| spread.median)),
        Shape::Lines(others) => others
            .iter()
            .map(|other| scale::top(of(other).map(|spread| spread.median), []))
            .fold(scale::top(own().map(|spread| spread.max), own().map(|spread| spread.median)), f64::max),
    }
}

/// Draws the figures.
pub(super) fn draw(plot: &Plot<'_>, shape: Shape, field: &str, cells: &[Cell<'_>]) -> Painted {
    match shape {
        Shape::Smoke(loss) => {
            spread(plot, field, cells)?;
            median(plot, field, cells, |column| colour_of(column, loss))?;
            cuts(plot, field, cells, |spread| spread.max)
        }
        Shape::Lines(others) => {
            spread(plot, field, cells)?;
            for (other, colour) in others.iter().zip(OTHERS) {
                median(plot, other, cells, |_| colour)?;
            }
            median(plot, field, cells, |_| MEDIAN)?;
            cuts(plot, field, cells, |spread| spread.max)
        }
        Shape::Loss => loss(plot, field, cells),
        Shape::Phases => {
            phases(plot, field, cells)?;
            cuts(plot, field, cells, |spread| spread.mean)
        }
    }
}

/// What the colours mean.
///
/// Of a single row of ping the spread is that of the packets of its run; of any other single row there is none.
pub(super) fn keys(shape: Shape, field: &str, cells: &[Cell<'_>], single: bool) -> Vec<Key> {
    let has = |field: &str| cells.iter().any(|cell| cell.column.figure(field).is_some());
    let spread: &[Key] = match shape {
        Shape::Smoke(_) if single => &[(SHADE, "min–p95 of a run"), (BAND, "min–max")],
        Shape::Lines(_) if single => &[],
        _ => &[(SHADE, "10–90 %"), (BAND, "min–max")],
    };
    let spread = spread.iter().copied();
    match shape {
        Shape::Smoke(_) => {
            [(MEDIAN, "median"), (LOSS_LOW, "loss ≤ 5 %"), (LOSS_MID, "≤ 25 %"), (LOSS_HIGH, "more")].into_iter().chain(spread).collect()
        }
        Shape::Loss => vec![(MEDIAN, "no loss"), (LOSS_LOW, "≤ 5 %"), (LOSS_MID, "≤ 25 %"), (LOSS_HIGH, "more")],
        Shape::Lines(others) => {
            let others = others.iter().zip(OTHERS).filter(|(other, _)| has(other)).map(|(other, colour)| (colour, name(other)));
            std::iter::once((MEDIAN, name(field))).chain(others).chain(spread).collect()
        }
        Shape::Phases => PHASES.iter().zip(PHASE_KEYS).filter(|(phase, _)| has(phase)).map(|(_, key)| key).collect(),
    }
}

/// What a line is called.
fn name(field: &str) -> &'static str {
    match field {
        "iperf_bandwidth_mbps" => "TCP",
        "iperf_download_mbps" => "TCP, download",
        "iperf_udp_mbps" => "UDP",
        _ => "median",
    }
}

fn spread(plot: &Plot<'_>, field: &str, cells: &[Cell<'_>]) -> Painted {
    for piece in pieces(cells, |column| column.figure(field).copied()) {
        let edge = |of: fn(&Spread) -> f64| steps(&piece, of);
        if piece.iter().any(|(.., spread)| spread.min < spread.max) {
            plot.between(edge(|spread| spread.max), edge(|spread| spread.min), BAND)?;
        }
        if piece.iter().any(|(.., spread)| spread.low < spread.high) {
            plot.between(edge(|spread| spread.high), edge(|spread| spread.low), SHADE)?;
        }
    }
    Ok(())
}

/// The median as steps; each stretch in its own colour.
fn median(plot: &Plot<'_>, field: &str, cells: &[Cell<'_>], colour: impl Fn(&Column) -> RGBColor) -> Painted {
    for piece in pieces(cells, |column| column.figure(field).map(|spread| (spread.median, colour(column)))) {
        // Under the stretches a thin line through all: it leads from one to the next.
        let thin = piece.first().map_or(MEDIAN, |(.., (_, colour))| if loss_tells(*colour) { MEDIAN } else { *colour });
        plot.line(steps(&piece, |(median, _)| *median), thin, 6)?;
        for stretch in piece.chunk_by(|(.., (_, before)), (.., (_, colour))| before == colour) {
            let colour = stretch.first().map_or(MEDIAN, |(.., (_, colour))| *colour);
            let points = steps(stretch, |(median, _)| *median);
            if loss_tells(colour) { plot.line(wide(points, plot.end * WIDE), colour, 30)? } else { plot.line(points, colour, 14)? }
        }
    }
    Ok(())
}

/// The same line, at least so long: loss in one column of many is to be seen.
fn wide(mut points: Vec<(f64, f64)>, least: f64) -> Vec<(f64, f64)> {
    if let [first, .., last] = points.as_mut_slice() {
        let more = (least - (last.0 - first.0)).max(0.0) / 2.0;
        (first.0, last.0) = (first.0 - more, last.0 + more);
    }
    points
}

/// Whether a colour tells of loss, and not of which line this is.
fn loss_tells(colour: RGBColor) -> bool {
    [LOSS_LOW, LOSS_MID, LOSS_HIGH].contains(&colour)
}

/// By the loss; where that is not known, by whether all was answered.
fn colour_of(column: &Column, loss: &str) -> RGBColor {
    let partial = || if column.count(crate::probe::Outcome::Partial) > 0 { LITTLE } else { 0.0 };
    of_loss(column.figure(loss).map_or_else(partial, |spread| spread.mean))
}

fn cuts(plot: &Plot<'_>, field: &str, cells: &[Cell<'_>], high: impl Fn(&Spread) -> f64) -> Painted {
    let higher = |cell: &&Cell<'_>| cell.column.figure(field).is_some_and(|spread| high(spread) > plot.top);
    cells.iter().filter(higher).try_for_each(|cell| plot.cut(f64::midpoint(cell.from, cell.to)))
}

fn loss(plot: &Plot<'_>, field: &str, cells: &[Cell<'_>]) -> Painted {
    let picked = |column: &Column| column.figure(field).map(|spread| spread.mean);
    for (from, to, ()) in stretches(cells, |column| picked(column).map(|_| ())) {
        plot.line(vec![(from, 0.0), (to, 0.0)], MEDIAN, 20)?;
    }
    for piece in pieces(cells, |column| picked(column).filter(|mean| *mean > 0.0)) {
        for stretch in piece.chunk_by(|(.., before), (.., mean)| of_loss(*before) == of_loss(*mean)) {
            let colour = stretch.first().map_or(LOSS_HIGH, |(.., mean)| of_loss(*mean));
            let foot = stretch.iter().flat_map(|(from, to, _)| [(*from, 0.0), (*to, 0.0)]).collect();
            plot.between(steps(stretch, |mean| mean.max(LEAST)), foot, colour)?;
        }
    }
    Ok(())
}

/// A phase as a part of the whole: its mean, as often as a row has it. One that most rows do without adds little to the mean
/// of all.
pub(super) fn part(whole: &Spread, phase: &Spread) -> f64 {
    phase.mean.max(0.0) * (f64::from(phase.rows.max(1)) / f64::from(whole.rows.max(1))).min(1.0)
}

/// Where each phase ends, above those before it.
fn ends(column: &Column, field: &str) -> Option<[f64; 5]> {
    let whole = column.figure(field)?;
    let mut sum = 0.0;
    Some(PHASES.map(|phase| {
        sum += column.figure(phase).map_or(0.0, |phase| part(whole, phase));
        sum
    }))
}

/// The means, as only they add up.
fn phases(plot: &Plot<'_>, field: &str, cells: &[Cell<'_>]) -> Painted {
    for piece in pieces(cells, |column| ends(column, field)) {
        for (index, (colour, _)) in PHASE_KEYS.into_iter().enumerate() {
            let lower = |ends: &[f64; 5]| index.checked_sub(1).map_or(0.0, |below| ends[below]);
            if piece.iter().any(|(.., ends)| ends[index] > lower(ends)) {
                plot.between(steps(&piece, |ends| ends[index]), steps(&piece, lower), colour)?;
            }
        }
    }
    // Of very many columns the edges alone would be seen.
    let edged = if cells.len() <= EDGED { cells } else { &[] };
    for piece in pieces(edged, |column| column.figure(field).map(|spread| spread.mean)) {
        plot.line(steps(&piece, |mean| *mean), TEXT, 8)?;
    }
    Ok(())
}
