//! What holds for every chart, and what each shape promises: properties of the SVG, not its bytes.

use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::testing::{at, busy, column, range, spread};
use super::*;
use crate::clock::Timestamp;
use crate::history::range::{Column, Event, Lacking, Span, What};
use crate::probe::Outcome;

mod degenerate;

/// The most that a chart may be long.
const LARGEST: usize = 150_000;
const KINDS: [&str; 3] = ["ping", "http", "iperf3"];

fn every() -> impl Iterator<Item = &'static Chart> {
    KINDS.into_iter().flat_map(charts)
}

fn smoke(range: &Range) -> Drawn {
    draw(&charts("ping")[0], "ping/core/192.0.2.1", range)
}

/// The elements with this fill, or this stroke.
fn of_colour<'a>(document: &'a Document<'_>, attribute: &str, colour: &str) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.attribute(attribute) == Some(colour)).collect()
}

fn count(svg: &str, attribute: &str, colour: &str) -> usize {
    let document = Document::parse(svg).unwrap();
    // Of the legend there is one each, below the plot.
    let is_key = |node: &Node<'_, '_>| node.attribute("width") == Some("10") && node.attribute("height") == Some("10");
    of_colour(&document, attribute, colour).iter().filter(|node| !is_key(node)).count()
}

/// Whether an element may stand in a page with our policy.
fn is_harmless(document: &Document<'_>) -> bool {
    let known = ["svg", "title", "desc", "defs", "pattern", "path", "rect", "text", "circle"];
    document.descendants().filter(Node::is_element).all(|node| {
        known.contains(&node.tag_name().name())
            && node
                .attributes()
                .all(|attribute| attribute.name() != "style" && !attribute.name().starts_with("on") && attribute.name() != "href")
    })
}

#[test]
fn every_chart_is_well_formed_says_what_it_is_and_is_small() {
    let range = range(720 * 3600, 3600, (0..720).map(|n| busy(n, 3600)).collect());
    for chart in every() {
        let Drawn { svg, words } = draw(chart, "ping/core/192.0.2.1", &range);
        let document = Document::parse(&svg).unwrap();
        let root = document.root_element();
        let children: Vec<_> = root.children().map(|node| node.tag_name().name()).collect();
        assert_eq!(children[..2], ["title", "desc"]);
        assert_eq!(root.attribute("role"), Some("img"));
        assert_eq!(root.attribute("aria-labelledby"), root.first_child().unwrap().attribute("id"));
        assert_eq!((root.attribute("viewBox"), root.attribute("width")), (Some("0 0 800 264"), None));
        assert_eq!((root.attribute("data-from"), root.attribute("data-to")), (Some("1769860800"), Some("1772452800")));
        assert_eq!((root.attribute("data-left"), root.attribute("data-right")), (Some("56"), Some("760")));
        assert!(is_harmless(&document), "{}", chart.field);
        assert!(svg.len() <= LARGEST, "{} has {} bytes", chart.field, svg.len());
        let text: String = document.descendants().filter_map(|node| node.text()).collect();
        assert!(text.contains(chart.title) && text.contains(chart.unit) && text.contains("UTC"), "{text}");
        assert!(words.contains("2026-01-31 12:00 – 2026-03-02 12:00 UTC"), "{words}");
        assert_eq!(draw(chart, "ping/core/192.0.2.1", &range).svg, svg, "the same range, the same bytes");
    }
}

#[test]
fn ids_differ_from_chart_to_chart_and_from_series_to_series() {
    let mut hole = column(60, &[]);
    hole.outcomes = vec![(Outcome::Skipped, 1)];
    let range = range(600, 60, vec![column(0, &[1.0]), hole]);
    let svgs = every().flat_map(|chart| ["a", "b"].map(|name| draw(chart, name, &range).svg)).collect::<String>();
    let page = format!("<body>{svgs}</body>");
    let document = Document::parse(&page).unwrap();
    let mut ids: Vec<_> = document.descendants().filter_map(|node| node.attribute("id")).collect();
    assert_eq!(ids.len(), 20 * 3);
    for used in document.descendants().filter_map(|node| node.attribute("fill")?.strip_prefix("url(#")?.strip_suffix(')')) {
        assert!(ids.contains(&used), "{used}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20 * 3);
}

#[test]
fn a_hole_breaks_band_and_line() {
    let whole: Vec<_> = (0..10).map(|n| busy(n, 60)).collect();
    let mut parted = whole.clone();
    parted.remove(5);
    for (columns, pieces) in [(whole, 1), (parted, 2)] {
        let Drawn { svg, words } = smoke(&range(600, 60, columns));
        assert_eq!((count(&svg, "fill", "#d6e4f0"), count(&svg, "fill", "#9cc0dd")), (pieces, pieces));
        assert_eq!(words.contains("1 time without any row, 1m in all"), pieces == 2, "{words}");
    }
}

#[test]
fn a_part_that_is_not_in_the_history_yet_is_shown_and_told_as_that() {
    let columns = [(0..3), (7..10)].into_iter().flatten().map(|n| busy(n, 60)).collect();
    let whole = range(600, 60, columns);
    let lacks = |from, to, why: Option<&str>| Lacking { rows: 42, from: at(from), to: at(to), why: why.map(str::to_owned) };
    let with = |lacking| smoke(&Range { lacking: Some(lacking), ..whole.clone() });
    let Drawn { svg, words } = smoke(&whole);
    assert!(count(&svg, "fill", "#e9ecef") == 0 && words.contains("1 time without any row, 4m in all"), "{words}");
    let Drawn { svg, words } = with(lacks(200, 400, None));
    assert_eq!(count(&svg, "fill", "#e9ecef"), 1);
    assert!(!words.contains("without any row"), "nobody knows that yet: {words}");
    let said = "Not complete: 42 rows of the journal, of about 2026-01-31 12:03 – 12:06 UTC, are not in the history yet.";
    let document = Document::parse(&svg).unwrap();
    let texts: Vec<_> = document.descendants().filter_map(|node| node.text()).collect();
    assert!(texts.iter().any(|text| text.contains(said)), "{words}");
    assert!(texts.contains(&"not in the history yet"), "the legend has it: {texts:?}");
    let Drawn { svg, words } = with(lacks(9_000, 9_600, Some("only 9 bytes are free")));
    assert!(count(&svg, "fill", "#e9ecef") == 0 && words.contains("not in the history: only 9 bytes are free."), "{words}");
    let nothing = Range { columns: Vec::new(), lacking: Some(lacks(0, 600, None)), ..whole };
    assert!(smoke(&nothing).words.contains("no rows so far. Not complete: "));
}

#[test]
fn the_median_has_the_colour_of_its_loss() {
    let with = |loss| {
        let mut column = column(0, &[5.0]);
        column.figures.push(("ping_packet_loss_pct", spread(loss)));
        smoke(&range(60, 60, vec![column])).svg
    };
    for (loss, colour) in [(0.0, "#0b5394"), (1.0, "#f2c14e"), (20.0, "#e07b39"), (60.0, "#b3261e")] {
        let svg = with(loss);
        let document = Document::parse(&svg).unwrap();
        let median: Vec<_> = of_colour(&document, "stroke", colour)
            .into_iter()
            .filter(|node| ["1.4", "3"].map(Some).contains(&node.attribute("stroke-width")))
            .collect();
        assert_eq!(median.len(), 1, "{loss}");
    }
}

#[test]
fn what_was_lost_and_what_was_not_measured_look_different() {
    let lost = range(180, 60, vec![column(0, &[5.0]), column(60, &[]), column(120, &[5.0])]);
    let mut skipped = lost.clone();
    skipped.columns[1].outcomes = vec![(Outcome::Skipped, 1)];
    let mut absent = lost.clone();
    absent.columns[1].outcomes = vec![(Outcome::PeerAbsent, 1)];
    let hatched = |svg: &str| {
        Document::parse(svg)
            .unwrap()
            .descendants()
            .filter(|node| node.attribute("fill").is_some_and(|fill| fill.starts_with("url(")))
            .count()
    };
    for (range, red, grey, said) in [
        (lost, 1, 0, "1 failed (1 timeout)"),
        (skipped, 0, 2, "1 not measured (1 skipped)"),
        (absent, 0, 2, "1 not measured (1 peer absent)"),
    ] {
        let Drawn { svg, words } = smoke(&range);
        // What is hatched is in the legend, too.
        assert_eq!((count(&svg, "stroke", "#b3261e"), hatched(&svg)), (red, grey), "{said}");
        assert!(words.contains(said), "{words}");
    }
}

#[test]
fn times_under_load_are_shaded_and_events_have_their_numbers() {
    let mut range = range(3600, 60, (0..60).map(|n| column(n * 60, &[5.0])).collect());
    for loaded in &mut range.columns[10..20] {
        loaded.loaded = 1;
    }
    let event = |second, what| Event { time: at(second), what };
    range.events = vec![
        event(300, What::AddressChanged { from: "192.0.2.1".to_owned(), to: "<b>\u{1b}".to_owned() }),
        event(1800, What::Lost(Outcome::Unreachable)),
        event(1810, What::Back),
        event(3000, What::ClockStep(-1500.0)),
    ];
    let Drawn { svg, words } = smoke(&range);
    assert_eq!(count(&svg, "fill", "#efe3f7"), 1);
    assert_eq!(count(&svg, "stroke", "#6b4fa0"), 4);
    let document = Document::parse(&svg).unwrap();
    let signs: Vec<_> = of_colour(&document, "fill", "#6b4fa0").iter().filter_map(Node::text).collect();
    assert_eq!(signs, ["1", "2–3", "4"]);
    assert!(words.contains("Event 1, 2026-01-31 12:05:00 UTC: the address changed from 192.0.2.1 to <b>."), "{words}");
    assert!(words.contains("Event 4, 2026-01-31 12:50:00 UTC: the wall clock was stepped by -1500 ms."), "{words}");
}

#[test]
fn an_outlier_is_cut_and_marked_and_told() {
    let mut columns: Vec<_> = (0..100).map(|n| column(n * 60, &[5.0])).collect();
    columns[50].figures = vec![("ping_avg_ms", Spread { max: 3000.0, ..spread(5.0) })];
    let Drawn { svg, words } = smoke(&range(6000, 60, columns));
    // All other text of this colour is text.
    let document = Document::parse(&svg).unwrap();
    let marks = of_colour(&document, "fill", "#1f2933").iter().filter(|node| node.tag_name().name() == "path").count();
    assert_eq!(marks, 1);
    assert!(words.contains("largest 3000 ms"), "{words}");
}

#[test]
fn phases_are_stacked_and_only_those_that_there_are() {
    let mut columns: Vec<_> = (0..10).map(|n| busy(n, 60)).collect();
    for column in &mut columns {
        column.figures.retain(|(field, _)| *field != "http_tls_ms");
    }
    let Drawn { svg, words } = draw(&charts("http")[0], "x", &range(600, 60, columns));
    let areas = ["#6baed6", "#74c476", "#fd8d3c", "#9e9ac8", "#636363"].map(|colour| count(&svg, "fill", colour));
    assert_eq!(areas, [1, 1, 0, 1, 1]);
    assert!(words.contains("On average: DNS ") && !words.contains("TLS"), "{words}");
}

#[test]
fn phases_that_only_some_rows_have_add_up_to_the_mean_of_all() {
    let of = |mean, rows| Spread { rows, ..spread(mean) };
    let mut one = column(0, &[]);
    // Nine of ten requests reuse the connection.
    one.figures = vec![("http_ping_ms", of(12.0, 10)), ("http_tls_ms", of(20.0, 1)), ("http_first_byte_ms", of(10.0, 10))];
    let told = draw(&charts("http")[0], "x", &Range { single: false, ..range(60, 60, vec![one]) }).words;
    assert!(told.contains("On average: TLS 2 ms, first byte 10 ms."), "{told}");
}

#[test]
fn every_colour_of_the_strip_is_in_the_legend() {
    let mut columns: Vec<_> = [99, 80, 1]
        .into_iter()
        .zip(0..)
        .map(|(answered, n)| {
            let mut column = busy(n, 60);
            column.outcomes = vec![(Outcome::Ok, answered), (Outcome::Timeout, 1)];
            column
        })
        .collect();
    columns[1].outcomes[1].1 = 20;
    let Drawn { svg, .. } = draw(&charts("http")[0], "x", &Range { single: false, ..range(180, 60, columns) });
    for key in [">≤ 5 % failed<", ">≤ 25 % failed<", ">more failed<"] {
        assert!(svg.contains(key), "{key} in {svg}");
    }
}

#[test]
fn the_usual_is_that_of_rows_and_not_of_columns() {
    let mut one = column(0, &[]);
    one.figures = vec![("ping_avg_ms", Spread { min: 1.0, low: 2.0, median: 5.0, high: 20.0, max: 30.0, mean: 7.0, rows: 50 })];
    let several = Range { single: false, ..range(600, 600, vec![one.clone()]) };
    let Drawn { svg, words } = smoke(&several);
    assert!(words.contains("Median 5 ms, 10–90 % of the rows 2–20 ms"), "{words}");
    assert!(svg.contains(">10–90 %<"), "{svg}");
    one.figures[0].1.rows = 1;
    let Drawn { svg, words } = smoke(&range(600, 600, vec![one]));
    assert!(words.contains("Median 5 ms, 10–90 % of the rows 5–5 ms"), "{words}");
    assert!(svg.contains(">min–p95 of a run<"), "{svg}");
}

#[test]
fn a_chart_without_its_field_is_an_empty_frame_that_says_so() {
    let range = range(600, 60, vec![column(0, &[1.0])]);
    for chart in every().filter(|chart| chart.field != "ping_avg_ms") {
        assert!(!has_data(chart, &range));
        let Drawn { svg, words } = draw(chart, "x", &range);
        let sentence = format!("no row of this time has {}", chart.field);
        let document = Document::parse(&svg).unwrap();
        assert!(document.descendants().any(|node| node.text() == Some(&sentence)), "{sentence}");
        assert!(words.contains(&format!("None of them has {}.", chart.field)), "{words}");
    }
}

#[test]
fn names_of_others_are_text() {
    let name = format!("<script>alert(1)</script>\"'&\u{0}\u{8}\u{fffe}\u{202e}]]>{}", "x".repeat(65_536));
    for chart in every() {
        let svg = draw(chart, &name, &range(600, 60, vec![column(0, &[1.0])])).svg;
        let document = Document::parse(&svg).unwrap();
        assert!(is_harmless(&document) && svg.len() < 20_000);
        let title = document.root_element().first_child().unwrap().text().unwrap();
        assert!(title.contains("<script>alert(1)</script>\"'&]]>xxx") && title.ends_with('…'), "{title}");
    }
}

#[test]
fn the_words_tell_what_there_is() {
    let mut columns: Vec<_> = (0..10).map(|n| column(n * 60, &[10.0 + n as f64])).collect();
    for column in &mut columns {
        column.figures.push(("ping_packet_loss_pct", spread(2.5)));
    }
    columns.push(column(600, &[]));
    let told = smoke(&range(660, 60, columns)).words;
    assert_eq!(
        told,
        "2026-01-31 12:00 – 12:11 UTC, 11 rows. Median 14 ms, 10–90 % of the rows 10–18 ms, smallest 10 ms, largest 19 ms. \
         Packet loss 2.5 % on average. 1 failed (1 timeout)."
    );
    assert_eq!(smoke(&range(60, 60, vec![])).words, "2026-01-31 12:00 – 12:01 UTC: no rows.");
}
