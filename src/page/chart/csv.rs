//! What a chart is drawn of, as CSV (RFC 4180). Every cell is a figure, a time or a word of ours: nothing of others can
//! stand where a spreadsheet would take it for a formula.

use super::Chart;
use crate::history::range::{Column, Range, Spread};
use crate::probe::Outcome;

/// What is told of each field.
const OF_A_FIELD: [&str; 7] = ["min", "low", "median", "high", "max", "mean", "rows"];

/// A line for each column, below the header. A figure that was not measured is empty.
pub(super) fn csv(chart: &Chart, range: &Range) -> String {
    let mut out = String::new();
    let fields = chart.fields();
    let header = ["time", "width_s", "rows"].into_iter().chain(Outcome::ALL.map(Outcome::name)).chain(["loaded"]).map(str::to_owned);
    let figures = fields.iter().flat_map(|field| OF_A_FIELD.map(|figure| format!("{field}_{figure}")));
    line(&mut out, header.chain(figures));
    for column in &range.columns {
        let outcomes = Outcome::ALL.map(|outcome| column.count(outcome).to_string());
        let begin = [column.start.to_string(), column.width.as_secs_f64().to_string(), rows(column).to_string()];
        let figures = fields.iter().flat_map(|field| told(column.figure(field)));
        line(&mut out, begin.into_iter().chain(outcomes).chain([column.loaded.to_string()]).chain(figures));
    }
    out
}

fn told(spread: Option<&Spread>) -> [String; 7] {
    let Some(Spread { min, low, median, high, max, mean, rows }) = spread else { return Default::default() };
    [min.to_string(), low.to_string(), median.to_string(), high.to_string(), max.to_string(), mean.to_string(), rows.to_string()]
}

fn rows(column: &Column) -> u64 {
    column.outcomes.iter().map(|(_, rows)| u64::from(*rows)).sum()
}

/// No cell has a comma, a quote or the end of a line in it.
fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&cell);
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::chart::charts;
    use crate::page::chart::testing::{column, range};

    #[test]
    fn each_column_is_a_line_with_the_figures_of_the_field() {
        let text = csv(&charts("ping")[0], &range(600, 60, vec![column(0, &[1.5]), column(60, &[])]));
        let lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("time,width_s,rows,ok,partial,timeout,"), "{}", lines[0]);
        assert!(lines[0].contains(",peer_absent,loaded,ping_avg_ms_min,ping_avg_ms_low,ping_avg_ms_median,"), "{}", lines[0]);
        assert!(lines[1].starts_with("2026-01-31T12:00:00.000000000Z,60,1,1,0,"), "{}", lines[1]);
        assert!(lines[1].contains(",1.5,1.5,1.5,1.5,1.5,1.5,1,"), "{}", lines[1]);
        assert!(lines[2].ends_with(",,,,,,,"), "{}", lines[2]);
        let mut reader = ::csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let cells = reader.headers().unwrap().len();
        assert!(reader.records().all(|record| record.unwrap().len() == cells));
    }
}
