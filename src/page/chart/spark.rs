//! A line of the last values, small enough to stand in every row of a list. Pure.

use std::fmt::Write;

use super::palette::{LOSS_HIGH, MEDIAN, hex};

/// How high it is, in pixels.
const HEIGHT: i32 = 20;
/// How wide it is.
const WIDTH: i32 = 120;

/// One path for the values, one at the foot for the slots without any.
pub(super) fn spark(values: &[Option<f32>]) -> String {
    let top = values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0_f32, f32::max);
    let place = |index: usize| (index * WIDTH as usize / values.len().max(1)) as i32;
    let height = |value: f32| {
        if top > 0.0 { HEIGHT - 2 - (value / top).clamp(0.0, 1.0).mul_add((HEIGHT - 4) as f32, 0.0).round() as i32 } else { HEIGHT - 2 }
    };
    let (mut line, mut foot) = (String::new(), String::new());
    let mut pen: Option<(i32, i32)> = None;
    for (index, value) in values.iter().enumerate() {
        let (x, next) = (place(index), place(index + 1));
        // Memory takes whatever is written.
        let _ = match (value.filter(|value| value.is_finite()).map(height), pen) {
            (Some(y), Some((before, height))) => write!(line, "l{} {}", x - before, y - height).map(|()| pen = Some((x, y))),
            (Some(y), None) => write!(line, "M{x} {y}h1").map(|()| pen = Some((x + 1, y))),
            (None, _) => write!(foot, "M{x} {}h{}", HEIGHT - 1, (next - x).max(1)).map(|()| pen = None),
        };
    }
    let path = |data: &str, colour| {
        if data.is_empty() {
            String::new()
        } else {
            format!(
                "<path fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" d=\"{data}\"/>",
                hex(colour),
                if colour == (MEDIAN.0, MEDIAN.1, MEDIAN.2) { "1.5" } else { "2" }
            )
        }
    };
    let (line, foot) = (path(&line, (MEDIAN.0, MEDIAN.1, MEDIAN.2)), path(&foot, (LOSS_HIGH.0, LOSS_HIGH.1, LOSS_HIGH.2)));
    format!(
        "<svg class=\"spark\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" aria-hidden=\"true\">{line}{foot}</svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_without_a_value_break_the_line_and_are_told_at_the_foot() {
        let svg = spark(&[Some(1.0), Some(2.0), None, Some(0.0), None, None]);
        let document = roxmltree::Document::parse(&svg).unwrap();
        assert_eq!(document.root_element().attribute("aria-hidden"), Some("true"));
        let paths: Vec<_> = document.descendants().filter_map(|node| node.attribute("d")).collect();
        assert_eq!(paths, ["M0 10h1l19 -8M60 18h1", "M40 19h20M80 19h20M100 19h20"]);
    }

    #[test]
    fn thirty_values_are_less_than_400_bytes() {
        let values: Vec<_> = (0..30).map(|n: i16| Some(f32::from(n * 37 % 23) + 10.0)).collect();
        let svg = spark(&values);
        assert!(svg.len() <= 400, "{}", svg.len());
    }

    #[test]
    fn no_values_are_too_strange() {
        for values in [vec![], vec![None; 3], vec![Some(f32::NAN), Some(f32::INFINITY), Some(-1.0), Some(f32::MAX)], vec![Some(0.0); 500]] {
            roxmltree::Document::parse(&spark(&values)).unwrap();
        }
    }
}
