//! The sheet that plotters draws on: SVG in memory, measured in tenths of a pixel, each outline one short path.
//!
//! Nothing on it has a style of its own: colours are attributes, for the style sheet to replace.

use std::convert::Infallible;
use std::fmt::Write;

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle, FontTransform,
};

use super::palette::{GAP, hex};
use super::text::{escaped, plain};

/// Units of the sheet in a pixel.
pub(super) const UNITS: i32 = 10;
/// The longest text of a label.
const LONGEST: usize = 200;

/// What was drawn so far.
pub(super) struct Sheet<'a> {
    /// Elements of SVG.
    pub(super) out: &'a mut String,
    /// In units.
    pub(super) size: (u32, u32),
    /// The id of the pattern for what was not measured.
    pub(super) hatch: &'a str,
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Sheet<'_> {
    fn fill(&self, color: BackendColor) -> String {
        let (red, green, blue) = color.rgb;
        if (red, green, blue) == (GAP.0, GAP.1, GAP.2) { format!("url(#{})", self.hatch) } else { hex(color.rgb) }
    }

    fn stroke<S: BackendStyle>(&mut self, style: &S, points: impl IntoIterator<Item = BackendCoord>) {
        if is_seen(style) {
            let (colour, width) = (hex(style.color().rgb), pixels(style.stroke_width() as i32));
            write(self.out, format_args!("<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" d=\"{}\"/>", outline(points)));
        }
    }
}

impl DrawingBackend for Sheet<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.stroke(style, [from, to]);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.stroke(style, path);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(&mut self, (x0, y0): BackendCoord, (x1, y1): BackendCoord, style: &S, fill: bool) -> Drawn {
        if !fill {
            self.stroke(style, [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]);
        } else if is_seen(style) {
            let (x, y, width, height) = (pixels(x0.min(x1)), pixels(y0.min(y1)), pixels((x1 - x0).abs()), pixels((y1 - y0).abs()));
            let fill = self.fill(style.color());
            write(self.out, format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>"));
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, _fill: bool) -> Drawn {
        if is_seen(style) {
            let (x, y, radius, fill) = (pixels(x), pixels(y), pixels(radius as i32), hex(style.color().rgb));
            write(self.out, format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\"/>"));
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn {
        if is_seen(style) {
            let fill = self.fill(style.color());
            write(self.out, format_args!("<path fill=\"{fill}\" d=\"{}z\"/>", outline(corners)));
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let anchor = match style.anchor().h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        let down = match style.anchor().v_pos {
            VPos::Top => "0.76em",
            VPos::Center => "0.35em",
            VPos::Bottom => "-0.25em",
        };
        let (x, y, size) = (pixels(x), pixels(y), pixels(style.size().round() as i32));
        let turned = match style.transform() {
            FontTransform::None => String::new(),
            FontTransform::Rotate90 => format!(" transform=\"rotate(90 {x} {y})\""),
            FontTransform::Rotate180 => format!(" transform=\"rotate(180 {x} {y})\""),
            FontTransform::Rotate270 => format!(" transform=\"rotate(270 {x} {y})\""),
        };
        let weight = if matches!(style.style(), FontStyle::Bold) { " font-weight=\"bold\"" } else { "" };
        let (fill, text) = (hex(style.color().rgb), escaped(&plain(text, LONGEST)));
        write(
            self.out,
            format_args!(
                "<text x=\"{x}\" y=\"{y}\" dy=\"{down}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{fill}\"{weight}{turned}>{text}</text>"
            ),
        );
        Ok(())
    }
}

fn is_seen<S: BackendStyle>(style: &S) -> bool {
    style.color().alpha > 0.0
}

/// The data of a path: from the first point on, each as its distance from the one before, straight on as long as possible.
fn outline(points: impl IntoIterator<Item = BackendCoord>) -> String {
    let mut points = points.into_iter();
    let Some((mut x, mut y)) = points.next() else { return String::new() };
    let mut data = format!("M{} {}", pixels(x), pixels(y));
    let mut pending = (0, 0);
    for (next_x, next_y) in points {
        let step = (next_x - x, next_y - y);
        (x, y) = (next_x, next_y);
        if goes_on(pending, step) {
            pending = (pending.0 + step.0, pending.1 + step.1);
        } else {
            push(&mut data, pending);
            pending = step;
        }
    }
    push(&mut data, pending);
    data
}

/// Whether a step goes on in the direction of the one before, along an axis.
fn goes_on(before: (i32, i32), step: (i32, i32)) -> bool {
    let along = |a: i32, b: i32| a.signum() * b.signum() >= 0;
    step == (0, 0) || (before.1 == 0 && step.1 == 0 && along(before.0, step.0)) || (before.0 == 0 && step.0 == 0 && along(before.1, step.1))
}

fn push(data: &mut String, (x, y): (i32, i32)) {
    match (x, y) {
        (0, 0) => {}
        (x, 0) => write(data, format_args!("h{}", pixels(x))),
        (0, y) => write(data, format_args!("v{}", pixels(y))),
        (x, y) => write(data, format_args!("l{}{}{}", pixels(x), if y < 0 { "" } else { " " }, pixels(y))),
    }
}

/// So many units in pixels, as short as can be.
pub(super) fn pixels(units: i32) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, tenth) = (units.unsigned_abs() / 10, units.unsigned_abs() % 10);
    match (whole, tenth) {
        (whole, 0) => format!("{sign}{whole}"),
        (0, tenth) => format!("{sign}.{tenth}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

fn write(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Memory takes whatever is written.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_is_as_short_as_its_corners() {
        for (points, data) in [
            (vec![], ""),
            (vec![(5, -12)], "M.5 -1.2"),
            (vec![(0, 0), (10, 0), (20, 0), (20, 0), (20, 5), (20, 7), (15, 2)], "M0 0h2v.7l-.5-.5"),
            (vec![(0, 0), (10, 0), (5, 0)], "M0 0h1h-.5"),
        ] {
            assert_eq!(outline(points), data);
        }
    }
}
