//! What `qosd export` gives.

use super::*;
use crate::journal::export::{ExportError, Filter, Format, export};

fn exported(dir: &Path, filter: &Filter, format: Format) -> String {
    let mut out = Vec::new();
    export(dir, filter, format, &mut out, |row| Some(format!("{} {}", row.series, row.time.nanos()))).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn an_export_is_ordered_by_time_and_runs_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    journal.append([7, 3, 5, 1].map(|time| row("a", EPOCH + time)).to_vec());
    journal.append(vec![row("b", EPOCH + 4), ping_row(9, EPOCH + 6)]);
    journal.flush().await.unwrap();
    let times = |filter: &Filter| {
        let json = exported(dir.path(), filter, Format::Json);
        let nanos = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["time"].as_str().unwrap()[28..29].to_owned();
        json.lines().map(nanos).collect::<String>()
    };
    assert_eq!(times(&Filter::default()), "134567");
    let until = Some(Timestamp::from_nanos(EPOCH + 6));
    assert_eq!(times(&Filter { since: Timestamp::from_nanos(EPOCH + 3), until, ..Filter::default() }), "345");
    assert_eq!(times(&Filter { target: Some("a".into()), ..Filter::default() }), "1357");
    assert_eq!(times(&Filter { probe: Some("core".into()), kind: Some("ping".into()), ..Filter::default() }), "13457");
    let line = exported(dir.path(), &Filter { target: Some("b".into()), ..Filter::default() }, Format::Line);
    assert_eq!(line, "qos_metrics,kind=ping,probe=core,target=b 1700000000000000004\n");
}

#[tokio::test]
async fn csv_has_the_union_of_all_columns() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    let mut skipped = row("b", EPOCH + 2);
    skipped.fields = crate::measurement::Fields::new();
    skipped.fields.put("result", crate::measurement::Value::Text("skipped, \"so\"".into()));
    skipped.series = Series::new("m", [("family", "ipv4")]);
    let mut measured = row("a", 7);
    measured.time = Timestamp::from_nanos(EPOCH + 7);
    journal.append(vec![measured, skipped]);
    journal.close().await.unwrap();
    drop(journal);
    assert_eq!(
        exported(dir.path(), &Filter::default(), Format::Csv),
        "time,measurement,family,kind,probe,target,rtt_ms,sent,result\n\
         2023-11-14T22:13:20.000000002Z,m,ipv4,,,,,,\"skipped, \"\"so\"\"\"\n\
         2023-11-14T22:13:20.000000007Z,qos_metrics,,ping,core,a,1,7,\n"
    );
}

#[test]
fn an_export_without_a_journal_says_so_and_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let refused = export(dir.path(), &Filter::default(), Format::Csv, &mut Vec::new(), |_| None).unwrap_err();
    assert!(matches!(refused, ExportError::Missing(_)), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
