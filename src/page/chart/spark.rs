//! A line of the last values, small enough to stand in every row of a list. Pure.

use std::fmt::Write;

use plotters::style::RGBColor;

use super::palette::{GAP, LOSS_HIGH, MEDIAN, hex};
use crate::status::recent::Slot;

/// How high it is, in pixels.
const HEIGHT: i32 = 20;
/// How wide it is.
const WIDTH: i32 = 120;

/// One path for the values; at the foot one for what was lost, and one for what was not measured.
pub(super) fn spark(slots: &[Slot]) -> String {
    let value = |slot: &Slot| match slot {
        Slot::Value(value) if value.is_finite() => Some(*value),
        Slot::Value(_) | Slot::Lost | Slot::Nothing => None,
    };
    let top = slots.iter().filter_map(value).fold(0.0_f32, f32::max);
    let place = |index: usize| (index * WIDTH as usize / slots.len().max(1)) as i32;
    let height = |value: f32| {
        if top > 0.0 { HEIGHT - 2 - (value / top).clamp(0.0, 1.0).mul_add((HEIGHT - 4) as f32, 0.0).round() as i32 } else { HEIGHT - 2 }
    };
    let (mut line, mut lost, mut blank) = (String::new(), String::new(), String::new());
    let mut pen: Option<(i32, i32)> = None;
    for (index, slot) in slots.iter().enumerate() {
        let (x, next) = (place(index), place(index + 1));
        let foot = if *slot == Slot::Lost { &mut lost } else { &mut blank };
        // Memory takes whatever is written.
        let _ = match (value(slot).map(height), pen) {
            (Some(y), Some((before, height))) => write!(line, "l{} {}", x - before, y - height).map(|()| pen = Some((x, y))),
            (Some(y), None) => write!(line, "M{x} {y}h1").map(|()| pen = Some((x + 1, y))),
            (None, _) => write!(foot, "M{x} {}h{}", HEIGHT - 1, (next - x).max(1)).map(|()| pen = None),
        };
    }
    let paths = [path(&line, MEDIAN, "1.5"), path(&lost, LOSS_HIGH, "2"), path(&blank, GAP, "2")].concat();
    format!(
        "<svg class=\"spark\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" aria-hidden=\"true\">{paths}</svg>"
    )
}

fn path(data: &str, colour: RGBColor, width: &str) -> String {
    let colour = hex((colour.0, colour.1, colour.2));
    if data.is_empty() { String::new() } else { format!("<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" d=\"{data}\"/>") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_without_a_value_break_the_line_and_what_was_lost_looks_other_than_what_was_not_measured() {
        let svg = spark(&[Slot::Value(1.0), Slot::Value(2.0), Slot::Lost, Slot::Value(0.0), Slot::Nothing, Slot::Lost]);
        let document = roxmltree::Document::parse(&svg).unwrap();
        assert_eq!(document.root_element().attribute("aria-hidden"), Some("true"));
        let paths: Vec<_> = document.descendants().filter_map(|node| node.attribute("stroke").zip(node.attribute("d"))).collect();
        let expected = [("#0b5394", "M0 10h1l19 -8M60 18h1"), ("#b3261e", "M40 19h20M100 19h20"), ("#b8bec5", "M80 19h20")];
        assert_eq!(paths, expected);
    }

    #[test]
    fn thirty_values_are_less_than_400_bytes() {
        let values: Vec<_> = (0..30).map(|n: i16| Slot::Value(f32::from(n * 37 % 23) + 10.0)).collect();
        let svg = spark(&values);
        assert!(svg.len() <= 400, "{}", svg.len());
    }

    #[test]
    fn no_values_are_too_strange() {
        let strange = [f32::NAN, f32::INFINITY, -1.0, f32::MAX].map(Slot::Value).to_vec();
        for slots in [vec![], vec![Slot::Nothing; 3], strange, vec![Slot::Value(0.0); 500]] {
            roxmltree::Document::parse(&spark(&slots)).unwrap();
        }
    }
}
