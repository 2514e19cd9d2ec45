//! What the colours mean, below the plot, in as many lines as it takes. Pure.

use plotters::style::RGBColor;

use super::plot::{LEFT, RIGHT};

/// What a legend says of a colour.
pub(super) type Key = (RGBColor, &'static str);

/// A key in its place.
pub(super) struct Placed {
    /// The colour and its words.
    pub(super) key: Key,
    /// From the left edge, in pixels.
    pub(super) x: i32,
    /// In which line.
    pub(super) line: i32,
}

/// From the colour to its words, in pixels.
pub(super) const TO_WORDS: i32 = 14;
/// Between two keys.
const BETWEEN: i32 = 10;
/// About how wide a character is: no font is known here, and most are narrower.
const CHARACTER: f64 = 7.4;

/// Each key after the one before, on a new line where there is no place.
pub(super) fn place(keys: &[Key], width: i32) -> Vec<Placed> {
    let (mut x, mut line) = (LEFT, 0);
    let mut placed = Vec::new();
    for key in keys {
        let wide = TO_WORDS + (key.1.chars().count() as f64 * CHARACTER) as i32;
        if x > LEFT && x + wide > width - RIGHT / 2 {
            (x, line) = (LEFT, line + 1);
        }
        placed.push(Placed { key: *key, x, line });
        x += wide + BETWEEN;
    }
    placed
}
