//! A chart at its own address: which one, of which series, of which time. Everything else is pure, this asks the history.

use super::{Chart, charts, sized};
use crate::history::range::Range;
use crate::measurement::Series;
use crate::page::subject::keep_addressed;
use crate::page::{Answer, Asked, Sight, Subject, link, time};

/// How wide a chart may be, in pixels.
const WIDTHS: std::ops::RangeInclusive<i32> = 300..=2000;
/// The most choices that are told.
const MOST: usize = 50;

/// A chart as SVG, of the width that was asked for.
pub(super) async fn svg(sight: &Sight, subject: &Subject, asked: &Asked) -> Answer {
    let width = match asked.get("width").map(|text| (text, text.parse::<i32>())) {
        None => super::WIDTH,
        Some((_, Ok(width))) if WIDTHS.contains(&width) => width,
        Some((text, _)) => {
            return Answer::refused(400, &format!("width is {text:?}, expected {} to {}", WIDTHS.start(), WIDTHS.end()));
        }
    };
    match found(sight, subject, asked, width).await {
        Ok((chart, series, range)) => {
            let drawn = sized(chart, &name(&series), &range, width);
            Answer::svg(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", drawn.svg))
        }
        Err(answer) => answer,
    }
}

/// The same as CSV.
pub(super) async fn csv(sight: &Sight, subject: &Subject, asked: &Asked) -> Answer {
    match found(sight, subject, asked, super::WIDTH).await {
        Ok((chart, _, range)) => table(chart, &range),
        Err(answer) => answer,
    }
}

async fn found(sight: &Sight, subject: &Subject, asked: &Asked, width: i32) -> Result<(&'static Chart, Series, Range), Answer> {
    let chart = chart(&subject.kind, asked.get("field"))?;
    let span = time::span(asked, sight.clock.now().unix).map_err(|why| Answer::refused(400, &why))?;
    let matching = subject.series(sight, asked).await.map_err(|why| Answer::refused(why.status(), &why.to_string()))?;
    let series = choose(matching, asked, &sight.board.scheduled())?;
    let away = |error: crate::history::HistoryError| Answer::refused(503, &error.to_string());
    let range = sight.range(&series, span, super::plot_width(width)).await.map_err(away)?;
    Ok((chart, series, range))
}

/// A table has no place in which to say that it is not all.
fn table(chart: &Chart, range: &Range) -> Answer {
    match &range.lacking {
        Some(lacking) => Answer::refused(503, &super::words::lacks(lacking)),
        None => Answer::csv(super::csv::csv(chart, range)),
    }
}

fn chart(kind: &str, field: Option<&str>) -> Result<&'static Chart, Answer> {
    let charts = charts(kind);
    let first = charts.first().ok_or_else(|| Answer::refused(404, "there is no such kind of probe"))?;
    let Some(field) = field else { return Ok(first) };
    charts.iter().find(|chart| chart.field == field).ok_or_else(|| {
        let known: Vec<_> = charts.iter().map(|chart| chart.field).collect();
        Answer::refused(400, &format!("field is {:?}, expected one of {}", super::text::plain(field, 80), known.join(", ")))
    })
}

/// The series that is meant: the one whose address it is, the only one, or the only one that is still measured. Nobody gets one of several unknowingly.
fn choose(mut matching: Vec<Series>, asked: &Asked, scheduled: &[Series]) -> Result<Series, Answer> {
    keep_addressed(&mut matching, asked);
    if matching.len() > 1 && matching.iter().filter(|series| scheduled.contains(series)).count() == 1 {
        matching.retain(|series| scheduled.contains(series));
    }
    if matching.len() > 1 {
        let choice = |series: &Series| {
            let told = link::choice(series).into_iter().map(|(key, value)| super::text::plain(&format!("{key}={value}"), 100));
            told.collect::<Vec<_>>().join("&")
        };
        let choices: Vec<_> = matching.iter().take(MOST).map(choice).collect();
        let why = format!("there are {} series of this target, add one of these to the address:\n{}", matching.len(), choices.join("\n"));
        return Err(Answer::refused(400, &why));
    }
    matching.pop().ok_or_else(|| Answer::refused(404, "there is no such target, or none of this family and source"))
}

/// What a series is called above its chart.
fn name(series: &Series) -> String {
    let tag = |key: &str| series.tag(key).unwrap_or_default().to_owned();
    let own = link::own_tags(series).fold(String::new(), |told, (key, value)| format!("{told}, {key}={value}"));
    format!("{}/{}/{}, {}, from {}{own}", tag("kind"), tag("probe"), tag("target"), tag("family"), tag("source"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::range::Lacking;
    use crate::measurement::QOS_METRICS;

    fn series(family: &str, source: &str) -> Series {
        Series::new(QOS_METRICS, [("kind", "ping"), ("probe", "core"), ("target", "a"), ("family", family), ("source", source)])
    }

    #[test]
    fn one_of_several_series_is_only_taken_if_it_alone_is_measured() {
        let any = Asked::default();
        let (old, new, other) = (series("auto", "before"), series("auto", "now"), series("ipv6", "now"));
        assert_eq!(choose(vec![old.clone()], &any, &[]), Ok(old.clone()));
        assert_eq!(choose(vec![old.clone(), new.clone()], &any, std::slice::from_ref(&new)), Ok(new.clone()));
        let refused = choose(vec![new.clone(), other.clone()], &any, &[new, other]).unwrap_err();
        assert_eq!(refused.status, 400);
        assert!(refused.body.contains("family=auto&source=now\nfamily=ipv6&source=now"), "{}", refused.body);
        assert_eq!(choose(vec![], &any, &[old]).unwrap_err().status, 404);
    }

    #[test]
    fn a_series_that_had_no_tag_yet_is_found_by_its_own_link_beside_the_one_that_is_measured() {
        let old = series("auto", "a");
        let new = Series::new(QOS_METRICS, old.tags().chain([("site", "milan")]));
        for meant in [&old, &new] {
            let asked = Asked { query: link::choice(meant).into_iter().collect() };
            assert_eq!(choose(vec![old.clone(), new.clone()], &asked, std::slice::from_ref(&new)).as_ref(), Ok(meant));
        }
    }

    #[test]
    fn a_table_that_is_not_all_is_refused() {
        use crate::page::chart::testing::{at, column, range};
        let whole = range(600, 60, vec![column(0, &[1.0])]);
        let lacking = Lacking { rows: 9, from: at(60), to: at(120), why: None };
        let part = Range { lacking: Some(lacking), ..whole.clone() };
        assert_eq!([&whole, &part].map(|range| table(&charts("ping")[0], range).status), [200, 503]);
    }

    #[test]
    fn a_field_without_a_chart_is_refused_with_those_that_have_one() {
        assert_eq!(chart("ping", None).unwrap().field, "ping_avg_ms");
        assert_eq!(chart("http", Some("http_upload_mbps")).unwrap().unit, "Mbit/s");
        let refused = chart("ping", Some("<script>")).unwrap_err();
        assert_eq!(refused.status, 400);
        assert!(refused.body.contains("expected one of ping_avg_ms, ping_packet_loss_pct, ping_jitter_ms"), "{}", refused.body);
        assert_eq!(chart("nothing", None).unwrap_err().status, 404);
    }
}
