//! Charts: from a range of columns to SVG, to CSV, and to words for who does not see it. Pure but for `address`.
//!
//! The same range gives the same bytes. Whatever is in it, there is a chart: a figure that cannot be drawn is left out, a text
//! of others is text. What was measured, what was lost, what was not measured and what is not known look different.

use std::borrow::Cow;

use super::{Answer, Asked, Sight, Subject};
use crate::history::range::{Range, Spread};
use crate::status::recent::Slot;
use axis::{Axis, spell};
use cells::{Cell, cells};
use legend::{Key, place};
use plot::{LEFT, Painted, Plot, RIGHT, Size};
use shapes::Shape;
use sheet::{Sheet, UNITS};
use text::{escaped, mark, plain};
pub use words::happened;

mod address;
mod axis;
mod cells;
mod csv;
mod layers;
mod legend;
mod palette;
mod plot;
mod scale;
mod shapes;
mod sheet;
mod spark;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod words;

/// How wide a chart in a page is, in pixels of its own; it is shown as wide as there is place.
pub const WIDTH: i32 = 800;
/// About how far apart the marks of the axis of time are, in pixels.
const MARK: f64 = 76.0;
/// The least width of a column, as a share of the axis.
const LEAST: f64 = 0.002;
/// The longest title.
const LONGEST_TITLE: usize = 100;

/// The charts of a kind. A chart is named by the field it is about, in the address and in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chart {
    /// As in the address: `?field=`.
    pub field: &'static str,
    /// For people.
    pub title: &'static str,
    /// Of the vertical axis.
    pub unit: &'static str,
}

/// A chart, ready to be put into a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// An `svg` element, with title, description and role, safe to be put into HTML as it is.
    pub svg: String,
    /// What it shows, in sentences: the text alternative, and what stands below it. Text: HTML escapes it as all text.
    pub words: String,
}

const fn chart(field: &'static str, title: &'static str, unit: &'static str) -> Chart {
    Chart { field, title, unit }
}

static PING: [Chart; 3] = [
    chart("ping_avg_ms", "Round-trip time and loss", "ms"),
    chart("ping_packet_loss_pct", "Packet loss", "%"),
    chart("ping_jitter_ms", "Jitter", "ms"),
];
static HTTP: [Chart; 3] = [
    chart("http_ping_ms", "HTTP request by phases", "ms"),
    chart("http_download_mbps", "HTTP download", "Mbit/s"),
    chart("http_upload_mbps", "HTTP upload", "Mbit/s"),
];
static IPERF3: [Chart; 4] = [
    chart("iperf_bandwidth_mbps", "Throughput", "Mbit/s"),
    chart("iperf_jitter_ms", "Jitter of UDP", "ms"),
    chart("iperf_lost_pct", "Loss of UDP", "%"),
    chart("iperf_retransmits", "Retransmits of TCP", "segments"),
];

/// The charts of a kind of probe, the most telling first; none for a kind that is not known.
pub fn charts(kind: &str) -> &'static [Chart] {
    match kind {
        "ping" => &PING,
        "http" => &HTTP,
        "iperf3" => &IPERF3,
        _ => &[],
    }
}

impl Chart {
    fn shape(&self) -> Shape {
        match self.field {
            "ping_avg_ms" => Shape::Smoke("ping_packet_loss_pct"),
            "ping_packet_loss_pct" | "iperf_lost_pct" => Shape::Loss,
            "http_ping_ms" => Shape::Phases,
            "iperf_bandwidth_mbps" => Shape::Lines(&["iperf_download_mbps", "iperf_udp_mbps"]),
            _ => Shape::Lines(&[]),
        }
    }

    /// Every field that it shows, its own first.
    fn fields(&self) -> Vec<&'static str> {
        let others: &[&'static str] = match self.shape() {
            Shape::Smoke(loss) => &[loss],
            Shape::Lines(others) => others,
            Shape::Loss => &[],
            Shape::Phases => &shapes::PHASES,
        };
        std::iter::once(self.field).chain(others.iter().copied()).collect()
    }
}

/// Whether any column has what a chart is about.
pub fn has_data(chart: &Chart, range: &Range) -> bool {
    let fields = match chart.shape() {
        Shape::Lines(_) => chart.fields(),
        Shape::Smoke(_) | Shape::Loss | Shape::Phases => vec![chart.field],
    };
    range.columns.iter().any(|column| fields.iter().any(|field| column.figure(field).is_some()))
}

/// Draws. `name` says of what: for the title.
pub fn draw(chart: &Chart, name: &str, range: &Range) -> Drawn {
    sized(chart, name, range, WIDTH)
}

/// How many columns a chart of the page can show.
pub fn columns() -> usize {
    plot_width(WIDTH)
}

fn plot_width(width: i32) -> usize {
    usize::try_from(width - LEFT - RIGHT).unwrap_or(1)
}

/// What of a range can be drawn: figures that are no numbers were not measured.
fn sound(range: &Range) -> Cow<'_, Range> {
    let is_sound = |Spread { min, low, median, high, max, mean, rows: _ }: &Spread| {
        [min, low, median, high, max, mean].into_iter().all(|figure| figure.is_finite())
    };
    if range.columns.iter().flat_map(|column| &column.figures).all(|(_, spread)| is_sound(spread)) {
        return Cow::Borrowed(range);
    }
    let mut range = range.clone();
    range.columns.iter_mut().for_each(|column| column.figures.retain(|(_, spread)| is_sound(spread)));
    Cow::Owned(range)
}

fn sized(chart: &Chart, name: &str, range: &Range, width: i32) -> Drawn {
    let range = &*sound(range);
    let words = words::words(chart, range);
    let title = plain(&format!("{} – {name}", chart.title), LONGEST_TITLE);
    let id = format!("{}-{}", chart.field, mark(&format!("{name}\n{:?}", range.span)));
    let hatch = format!("hatch-{id}");
    let mut body = String::new();
    let time = Axis::time(range.span, plot_width(width) as f64, MARK);
    let cells = cells(range, time.end * LEAST);
    let keys = keys(chart, range, &cells);
    let legend = place(&keys, width);
    let size = Size::with(width, &legend);
    let sheet = Sheet { out: &mut body, size: ((width * UNITS) as u32, (size.height * UNITS) as u32), hatch: &hatch };
    let values = Axis::values(shapes::top(chart.shape(), chart.field, &range.columns), 4);
    // The sheet is memory: nothing can fail there.
    let _ = Plot::new(sheet, size, (&title, &legend), (time, values)).and_then(|plot| paint(plot, chart, range, &cells));
    let height = size.height;
    let (from, to) = (range.span.from.nanos() as f64 / 1e9, range.span.to.nanos() as f64 / 1e9);
    let (left, right) = (LEFT, width - RIGHT);
    let defined = if body.contains("url(#") { pattern(&hatch) } else { String::new() };
    let (title, described) = (escaped(&title), escaped(&words));
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"title-{id}\" aria-describedby=\"desc-{id}\" font-family=\"sans-serif\" data-from=\"{from}\" data-to=\"{to}\" \
         data-left=\"{left}\" data-right=\"{right}\"><title id=\"title-{id}\">{title}</title><desc id=\"desc-{id}\">{described}</desc>\
         {defined}{body}</svg>"
    );
    Drawn { svg, words }
}

fn keys(chart: &Chart, range: &Range, cells: &[Cell<'_>]) -> Vec<Key> {
    let mut keys = if has_data(chart, range) { shapes::keys(chart.shape(), chart.field, cells, range.single) } else { Vec::new() };
    let has_loss = matches!(chart.shape(), Shape::Smoke(_) | Shape::Loss) && !keys.is_empty();
    keys.extend(layers::keys(cells, range, has_loss));
    keys
}

/// What an area is filled with in which nothing was measured.
fn pattern(id: &str) -> String {
    let colour = palette::hex((palette::GAP.0, palette::GAP.1, palette::GAP.2));
    format!(
        "<defs><pattern id=\"{id}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <path stroke=\"{colour}\" stroke-width=\"4\" d=\"M0 0v6\"/></pattern></defs>"
    )
}

fn paint(mut plot: Plot<'_>, chart: &Chart, range: &Range, cells: &[Cell<'_>]) -> Painted {
    layers::unseen(&plot, range)?;
    layers::behind(&plot, cells)?;
    plot.grid(&spell(range.span), chart.unit)?;
    if has_data(chart, range) {
        shapes::draw(&plot, chart.shape(), chart.field, cells)?;
    } else {
        let so_far = if range.lacking.is_some() { " so far" } else { "" };
        plot.middle(format!("no row of this time has {}{so_far}", chart.field))?;
    }
    layers::strip(&plot, cells)?;
    layers::events(&plot, range.span, &range.events)
}

/// A line of the last values, for a row of the overview: an `svg` element without axes.
pub fn sparkline(slots: &[Slot]) -> String {
    spark::spark(slots)
}

/// A chart at its own address, as SVG.
pub async fn svg(sight: &Sight, subject: &Subject, asked: &Asked) -> Answer {
    address::svg(sight, subject, asked).await
}

/// What a chart is drawn of, as CSV.
pub async fn csv(sight: &Sight, subject: &Subject, asked: &Asked) -> Answer {
    address::csv(sight, subject, asked).await
}
