//! Ranges that nobody wants to see, and that have a chart all the same.

use std::time::Duration;

use super::*;
use crate::history::range::Spread;

fn holds(range: &Range) {
    for chart in every() {
        let Drawn { svg, words } = draw(chart, "x", range);
        assert!(Document::parse(&svg).is_ok_and(|document| is_harmless(&document)), "{}: {svg}", chart.field);
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !words.is_empty(), "{svg}");
        csv::csv(chart, range);
    }
}

#[test]
fn no_range_is_too_strange_for_a_chart() {
    let odd = |value: f64| range(600, 60, (0..10).map(|n| column(n * 60, &[value])).collect());
    for value in [0.0, 1.0, -5.0, 1e308, f64::MIN_POSITIVE, f64::MAX] {
        holds(&odd(value));
    }
    for count in 0..3 {
        holds(&range(600, 60, (0..count).map(|n| column(n * 60, &[1.0])).collect()));
        holds(&range(600, 60, (0..count).map(|n| column(n * 60, &[])).collect()));
    }
    let before = |nanos| Span { from: Timestamp::from_nanos(nanos - 3_600_000_000_000), to: Timestamp::from_nanos(nanos) };
    holds(&Range { span: before(0), ..range(0, 60, vec![column(0, &[1.0])]) });
    holds(&Range { span: Span { from: at(0), to: at(0) }, ..range(0, 60, vec![column(0, &[1.0])]) });
    holds(&Range { step: Duration::ZERO, ..range(600, 60, vec![column(0, &[1.0]), column(0, &[1.0]), column(1, &[1.0])]) });
    holds(&Range { step: Duration::MAX, ..range(600, 60, vec![column(0, &[1.0]), column(5, &[1.0])]) });
}

#[test]
fn a_single_row_in_a_month_can_be_seen() {
    let svg = smoke(&range(30 * 86_400, 60, vec![column(86_400, &[5.0])])).svg;
    let document = Document::parse(&svg).unwrap();
    let line = of_colour(&document, "stroke", "#0b5394").iter().filter_map(|node| node.attribute("d")).next_back().unwrap().to_owned();
    assert!(line.ends_with("h1.4"), "{line}");
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), 0.0..1000.0, Just(f64::NAN), Just(1e308)]
}

fn figures() -> impl Strategy<Value = Vec<(&'static str, Spread)>> {
    let fields: Vec<_> = every().flat_map(Chart::fields).collect();
    let spread = (value(), value(), value(), value(), value(), value(), any::<u32>());
    let spread = spread.prop_map(|(min, low, median, high, max, mean, rows)| Spread { min, low, median, high, max, mean, rows });
    proptest::collection::vec((proptest::sample::select(fields), spread), 0..4)
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let outcomes = proptest::collection::vec((proptest::sample::select(Outcome::ALL.to_vec()), any::<u32>()), 0..3);
    let column = (any::<i64>(), 0..2_000_u64, any::<u64>(), outcomes, any::<u32>(), figures());
    let column = column.prop_map(|(wild, second, width, outcomes, loaded, figures)| {
        let start = if wild % 7 == 0 { Timestamp::from_nanos(wild) } else { at(second) };
        Column { start, width: Duration::from_nanos(width), outcomes, loaded, figures }
    });
    proptest::collection::vec(column, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_range_panics(columns in columns(), step in any::<u64>(), from in any::<i64>(), to in any::<i64>(), wild in any::<bool>()) {
        let span = if wild { Span { from: Timestamp::from_nanos(from), to: Timestamp::from_nanos(to) } } else { Span { from: at(0), to: at(2000) } };
        holds(&Range { span, step: Duration::from_nanos(step), single: wild, columns, events: Vec::new(), lacking: None });
    }
}
