//! The paper of a chart: title, axes, grid and legend, and places for what is drawn between them.

use std::convert::Infallible;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TextStyle};
use plotters_backend::FontStyle;
use plotters_backend::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::legend::{Placed, TO_WORDS};
use super::palette::{BACKGROUND, GRID, TEXT};
use super::sheet::{Sheet, UNITS};
use super::text::plain;

/// From the left edge to the plot, in pixels.
pub(super) const LEFT: i32 = 56;
/// From the plot to the right edge.
pub(super) const RIGHT: i32 = 40;
/// How high a chart is whose legend has one line.
const HEIGHT: i32 = 264;
const TOP: i32 = 40;
const BELOW: i32 = 42;
const LEGEND: i32 = 22;
const SMALL: i32 = 12;
/// From one line of the legend to the next.
const LEGEND_LINE: i32 = 18;
/// From the edge to the name of the axis of values.
const EDGE: i32 = 4;
/// About how wide a character of the title is.
const CHARACTER: i32 = 8;

/// What goes wrong while drawing: nothing, as the sheet is memory.
pub(super) type Painted = Result<(), DrawingAreaErrorKind<Infallible>>;

/// Where the data is drawn.
pub(super) struct Plot<'a> {
    root: DrawingArea<Sheet<'a>, Shift>,
    chart: ChartContext<'a, Sheet<'a>, Cartesian2d<Axis, Axis>>,
    /// Where the axis of values ends.
    pub(super) top: f64,
    /// Where the axis of time ends.
    pub(super) end: f64,
}

/// How large a chart is, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) width: i32,
    pub(super) height: i32,
}

impl Size {
    /// Of this width, with place for a legend.
    pub(super) fn with(width: i32, legend: &[Placed]) -> Self {
        let more = legend.last().map_or(0, |last| last.line);
        Self { width, height: HEIGHT + more * LEGEND_LINE }
    }
}

impl<'a> Plot<'a> {
    /// A sheet with its title and its legend, still without its grid.
    pub(super) fn new(
        sheet: Sheet<'a>,
        size: Size,
        (title, legend): (&str, &[Placed]),
        (time, values): (Axis, Axis),
    ) -> Result<Self, DrawingAreaErrorKind<Infallible>> {
        let root = sheet.into_drawing_area();
        root.draw(&Rectangle::new([(0, 0), (size.width * UNITS, size.height * UNITS)], BACKGROUND.filled()))?;
        let bold = ("sans-serif", 13 * UNITS, FontStyle::Bold).into_font().color(&TEXT).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(plain(title, ((size.width - LEFT) / CHARACTER).unsigned_abs() as usize), (LEFT * UNITS, 16 * UNITS), bold))?;
        let (top, end) = (values.end, time.end);
        let chart = ChartBuilder::on(&root)
            .margin_top(TOP * UNITS)
            .margin_right(RIGHT * UNITS)
            .margin_bottom((size.height - HEIGHT + LEGEND) * UNITS)
            .margin_left(EDGE * UNITS)
            .x_label_area_size(BELOW * UNITS)
            .y_label_area_size((LEFT - EDGE) * UNITS)
            .build_cartesian_2d(time, values)?;
        let plot = Self { root, chart, top, end };
        plot.legend(legend)?;
        Ok(plot)
    }

    /// Grid, axes and their descriptions.
    pub(super) fn grid(&mut self, time: &str, values: &str) -> Painted {
        self.chart
            .configure_mesh()
            .light_line_style(GRID.mix(0.0))
            .bold_line_style(stroke(GRID, UNITS))
            .axis_style(stroke(TEXT, UNITS))
            .label_style(small())
            .axis_desc_style(small())
            .set_all_tick_mark_size(3 * UNITS)
            .x_desc(time)
            .y_desc(values)
            .draw()
    }

    /// A filled area with these corners.
    pub(super) fn area(&self, corners: Vec<(f64, f64)>, colour: RGBColor) -> Painted {
        self.chart.plotting_area().draw(&Polygon::new(corners, colour.filled()))
    }

    /// What lies between two outlines that go from left to right.
    pub(super) fn between(&self, mut upper: Vec<(f64, f64)>, lower: Vec<(f64, f64)>, colour: RGBColor) -> Painted {
        upper.extend(lower.into_iter().rev());
        self.area(upper, colour)
    }

    /// A line of so many tenths of a pixel.
    pub(super) fn line(&self, points: Vec<(f64, f64)>, colour: RGBColor, tenths: i32) -> Painted {
        self.chart.plotting_area().draw(&PathElement::new(points, stroke(colour, tenths)))
    }

    /// A filled box from one time to another and from one height to another, as shares of the plot's.
    pub(super) fn span(&self, (from, to): (f64, f64), (low, high): (f64, f64), colour: RGBColor) -> Painted {
        let corners = [(from, low * self.top), (to, high * self.top)];
        self.chart.plotting_area().draw(&Rectangle::new(corners, colour.filled()))
    }

    /// A word in the middle of a time, above the plot.
    pub(super) fn above(&self, time: f64, word: String, colour: RGBColor) -> Painted {
        let style = small().color(&colour).pos(Pos::new(HPos::Center, VPos::Center));
        let (x, _) = self.chart.plotting_area().map_coordinate(&(time, self.top));
        self.root.draw(&Text::new(word, (x, (TOP - 7) * UNITS), style))
    }

    /// A sentence in the middle of the plot.
    pub(super) fn middle(&self, words: String) -> Painted {
        let style = small().pos(Pos::new(HPos::Center, VPos::Center));
        self.chart.plotting_area().draw(&Text::new(words, (self.end / 2.0, self.top / 2.0), style))
    }

    /// A mark at the upper edge: here is more than there is place for.
    pub(super) fn cut(&self, time: f64) -> Painted {
        let (x, y) = self.chart.plotting_area().map_coordinate(&(time, self.top));
        let corners = vec![(x, y - 4 * UNITS), (x + 4 * UNITS, y + 4 * UNITS), (x - 4 * UNITS, y + 4 * UNITS)];
        self.root.draw(&Polygon::new(corners, TEXT.filled()))
    }

    /// What the colours mean, below all else.
    fn legend(&self, legend: &[Placed]) -> Painted {
        for Placed { key: (colour, word), x, line } in legend {
            let (x, y) = (x * UNITS, (HEIGHT - LEGEND / 2 + line * LEGEND_LINE) * UNITS);
            self.root.draw(&Rectangle::new([(x, y - 5 * UNITS), (x + 10 * UNITS, y + 5 * UNITS)], colour.filled()))?;
            self.root.draw(&Text::new(*word, (x + TO_WORDS * UNITS, y), small().pos(Pos::new(HPos::Left, VPos::Center))))?;
        }
        Ok(())
    }
}

fn small() -> TextStyle<'static> {
    ("sans-serif", SMALL * UNITS).into_font().color(&TEXT)
}

fn stroke(colour: RGBColor, tenths: i32) -> ShapeStyle {
    colour.stroke_width(tenths.unsigned_abs())
}
