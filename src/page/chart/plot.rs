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
use super::palette::{BACKGROUND, GRID, TEXT};
use super::sheet::{Sheet, UNITS};

/// From the left edge to the plot, in pixels.
pub(super) const LEFT: i32 = 56;
/// From the plot to the right edge.
pub(super) const RIGHT: i32 = 24;
/// How high a chart is.
pub(super) const HEIGHT: i32 = 264;
const TOP: i32 = 40;
const BELOW: i32 = 42;
const LEGEND: i32 = 22;
const SMALL: i32 = 12;
/// About how wide a character of the small size is.
const CHARACTER: f64 = 6.3;

/// What goes wrong while drawing: nothing, as the sheet is memory.
pub(super) type Painted = Result<(), DrawingAreaErrorKind<Infallible>>;

/// Where the data is drawn.
pub(super) struct Plot<'a> {
    root: DrawingArea<Sheet<'a>, Shift>,
    chart: ChartContext<'a, Sheet<'a>, Cartesian2d<Axis, Axis>>,
    width: i32,
    /// Where the axis of values ends.
    pub(super) top: f64,
    /// Where the axis of time ends.
    pub(super) end: f64,
}

/// What a legend says of a colour.
pub(super) type Key = (RGBColor, &'static str);

impl<'a> Plot<'a> {
    /// A sheet of so many pixels, with a title, still without its grid.
    pub(super) fn new(
        sheet: Sheet<'a>,
        width: i32,
        title: &str,
        (time, values): (Axis, Axis),
    ) -> Result<Self, DrawingAreaErrorKind<Infallible>> {
        let root = sheet.into_drawing_area();
        root.draw(&Rectangle::new([(0, 0), (width * UNITS, HEIGHT * UNITS)], BACKGROUND.filled()))?;
        let bold = ("sans-serif", 13 * UNITS, FontStyle::Bold).into_font().color(&TEXT).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(title.to_owned(), (LEFT * UNITS, 16 * UNITS), bold))?;
        let (top, end) = (values.end, time.end);
        let chart = ChartBuilder::on(&root)
            .margin_top(TOP * UNITS)
            .margin_right(RIGHT * UNITS)
            .margin_bottom(LEGEND * UNITS)
            .x_label_area_size(BELOW * UNITS)
            .y_label_area_size(LEFT * UNITS)
            .build_cartesian_2d(time, values)?;
        Ok(Self { root, chart, width, top, end })
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

    /// What the colours mean, in one line below all else; what has no place any more is left out.
    pub(super) fn legend(&self, keys: &[Key]) -> Painted {
        let (mut x, y) = (LEFT * UNITS, (HEIGHT - LEGEND / 2) * UNITS);
        for (colour, word) in keys {
            let wide = 16 * UNITS + (word.chars().count() as f64 * CHARACTER * f64::from(UNITS)) as i32;
            if x + wide > self.width * UNITS {
                break;
            }
            self.root.draw(&Rectangle::new([(x, y - 5 * UNITS), (x + 10 * UNITS, y + 5 * UNITS)], colour.filled()))?;
            self.root.draw(&Text::new(*word, (x + 14 * UNITS, y), small().pos(Pos::new(HPos::Left, VPos::Center))))?;
            x += wide + 8 * UNITS;
        }
        Ok(())
    }

    /// So many pixels of the plot, in seconds.
    pub(super) fn pixels(&self, pixels: f64) -> f64 {
        self.end * pixels / f64::from((self.width - LEFT - RIGHT).max(1))
    }
}

fn small() -> TextStyle<'static> {
    ("sans-serif", SMALL * UNITS).into_font().color(&TEXT)
}

fn stroke(colour: RGBColor, tenths: i32) -> ShapeStyle {
    colour.stroke_width(tenths.unsigned_abs())
}
