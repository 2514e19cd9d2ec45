//! Names, texts and numbers that no sane person would choose, read by a real `InfluxDB`: each row is one row, under a name that is
//! its own, and no other row comes of it. The numbers are those of the table of faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qosd::clock::Timestamp;
use qosd::influxdb::line;
use qosd::measurement::{Fields, Row, Series, Value, field_name};

use crate::bed::daemon::Home;
use crate::bed::http::request;
use crate::bed::influx::{DATABASE, Influx};
use crate::bed::rows::{by_key, difference};
use crate::bed::{eventually, need_root};
use crate::scripted_server::{Reply, ScriptedServer};

const BEGIN: i64 = 1_700_000_000_000_000_000;

/// What would break a line, forge one, or mean something.
fn hostile() -> Vec<String> {
    let some = [
        "a b",
        " a",
        "a ",
        "a,b",
        "a=b",
        ",",
        "=",
        " ",
        "'",
        "\"",
        "a\"b",
        "\\",
        "a\\",
        "a\\\\",
        "a\\ ",
        "a\\,b",
        "\\n",
        "a\nb",
        "\n",
        "a\r\nb",
        "\0",
        "a\0b",
        "\t",
        "#a",
        "# a",
        "x,y=z f=1 1",
        "x f=1 1\nforged f=1 1",
        "x\\\nforged f=1 1",
        "\"x f=1 1\nforged",
        "é",
        "日本語",
        "😀",
        "\u{202e}a",
        "\u{2028}a",
        "\u{85}a",
        "\u{7f}a",
        "\u{1b}[31m",
        "{}",
        "$x",
        "%00",
        "../..",
        "--",
        "1",
        "1i",
        "t",
        "true",
        "NaN",
        "<script>",
    ];
    let long = ["x".repeat(256), "x".repeat(64 * 1024), "😀".repeat(300), "a\\".repeat(200)];
    some.map(str::to_owned).into_iter().chain(long).collect()
}

/// As a name of the database has to look by what the program promises: in 256 characters, without what no line can carry.
fn safe(name: &str) -> String {
    name.chars().take(256).map(|c| if c.is_control() || matches!(c, '"' | '\\') { '_' } else { c }).collect()
}

fn row(measurement: &str, tags: &[(&str, &str)], fields: Vec<(&str, Value)>, number: i64) -> Row {
    let mut set = Fields::new();
    set.put(field_name("number"), Value::Integer(number));
    for (name, value) in fields {
        set.put(field_name(name), value);
    }
    Row { series: Series::new(measurement, tags.iter().copied()), time: Timestamp::from_nanos(BEGIN + number), fields: set }
}

/// Writes rows as the program would, and gives what the database answered.
fn write(influx: &Influx, rows: &[Row]) -> (u16, String) {
    let body = line::body(rows, false).expect("each has a number");
    let text = std::str::from_utf8(&body).expect("it is UTF-8");
    assert_eq!(text.lines().count(), rows.len());
    request("POST", influx.port, "/write", &[("db", DATABASE), ("precision", "ns")], text).expect("influxd answers")
}

/// (I19)
#[test]
fn i19_a_real_influxdb_reads_one_row_for_each_hostile_name_in_each_place() {
    need_root();
    let influx = Influx::start();
    let names = hostile();
    let mut rows = Vec::new();
    let mut expected = BTreeMap::new();
    for name in &names {
        let number = rows.len() as i64;
        let text = || vec![("text", Value::Text(name.clone()))];
        rows.push(row(name, &[], vec![], number));
        rows.push(row("value", &[("tag", name)], text(), number + 1));
        rows.push(row("key", &[(name, "value")], vec![], number + 2));
        rows.push(row("field", &[("tag", "value")], vec![(name, Value::Integer(1))], number + 3));
        let mut measurement = safe(name);
        if measurement.starts_with('#') {
            measurement.replace_range(..1, "_");
        }
        let tag = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        expected.insert(number, (measurement, BTreeMap::new()));
        expected.insert(number + 1, ("value".to_owned(), tag("tag", &safe(name))));
        expected.insert(number + 2, ("key".to_owned(), tag(&safe(name), "value")));
        expected.insert(number + 3, ("field".to_owned(), tag("tag", "value")));
    }
    assert_eq!(write(&influx, &rows), (204, String::new()));
    let stored = influx.rows();
    assert_eq!(stored.len(), rows.len());
    for (key, fields) in &stored {
        let number = fields["number"].as_i64().expect("it is an integer");
        assert_eq!((&(key.measurement.clone(), key.tags.clone()), key.time), (&expected[&number], BEGIN + number));
        if let Some(text) = fields.get("text") {
            let name = &names[number as usize / 4];
            let end = name.floor_char_boundary(4096);
            let plain: String = name[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            assert_eq!(text, &plain, "a text is what it was, but for control characters");
        }
    }
    let known: BTreeSet<_> = expected.values().map(|(measurement, _)| measurement.clone()).collect();
    let measurements: BTreeSet<_> = stored.keys().map(|key| key.measurement.clone()).collect();
    assert_eq!(measurements, known, "no other measurement");
}

/// (I20)
#[test]
fn i20_a_real_influxdb_takes_every_number_there_is_and_what_is_none_is_left_out() {
    need_root();
    let influx = Influx::start();
    let floats = [0.0, -0.0, 0.1 + 0.2, 1e308, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e-7, 1e21, 123_456_789.123_456_78];
    let integers = [0, -1, i64::MAX, i64::MIN];
    let none = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let values = floats.map(Value::Float).into_iter().chain(integers.map(Value::Integer)).chain(none.map(Value::Float));
    let name = |value: &Value| if matches!(value, Value::Integer(_)) { "integer" } else { "float" };
    let rows: Vec<_> = values.clone().zip(0..).map(|(value, number)| row("m", &[], vec![(name(&value), value)], number)).collect();
    assert_eq!(write(&influx, &rows), (204, String::new()));
    let stored: Vec<_> = influx.rows().into_values().collect();
    assert_eq!(stored.len(), rows.len());
    for (value, fields) in values.zip(stored) {
        let read = fields.get(name(&value));
        match value {
            Value::Integer(integer) => assert_eq!(read.and_then(serde_json::Value::as_i64), Some(integer)),
            Value::Float(float) if float.is_finite() => {
                let read = read.and_then(serde_json::Value::as_f64).expect("it is there");
                assert!((read - float).abs() <= f64::EPSILON * float.abs(), "{float} is read as {read}");
            }
            _ => assert_eq!(read, None),
        }
    }
}

/// (I19) Through the whole program: names of its config, and what a server says.
#[test]
fn i19_what_the_config_allows_and_what_servers_say_is_in_a_real_influxdb_as_it_is_in_the_journal() {
    need_root();
    let influx = Influx::start();
    let replies = [
        "HTTP/1.1 999 a\\\",b=c d\r\n\r\n",
        "HTTP/1.1 500 x f=1 1\\\r\nlocation: \"\n\r\n\r\n",
        "\"x f=1 1\nforged f=1 1\n\r\n\r\n",
        "HTTP/1.1 302 y\r\nlocation: http://\\\" ,=\u{1b}/\r\n\r\n",
    ];
    let web = ScriptedServer::start(replies.map(|reply| Reply::Raw(reply.as_bytes().to_vec())), Reply::said(404, "\\\""));
    let names = ["a b", "a,b=c d", "#x f=1 1", "'", "{}", "😀é\u{202e}", "a\u{2028}b", "<script>", &"x".repeat(256)];
    let targets: Vec<_> = names
        .iter()
        .zip(1..)
        .map(|(name, n)| format!("{{ host = \"127.0.2.{n}\", name = '''{name}''', tags = {{ site = '''{name}''' }} }}"))
        .collect();
    let output = influx.output("main", Duration::from_millis(100));
    let home = Home::new(&format!(
        "{output}[ping.core]\ntargets = [{}]\ninterval = \"1s\"\ncount = 1\n\
         [http.portal]\ntargets = [{{ host = \"{}/\", name = \"a \\u00e9,=\" }}]\ninterval = \"1s\"\ntimeout = \"300ms\"\nredirects = 2\n",
        targets.join(", "),
        web.url()
    ));
    let running = home.start();
    eventually(Duration::from_secs(30), || {
        let told = home.probe_rows().iter().filter(|row| !row.text("error").is_empty()).count();
        if told > replies.len() { Ok(()) } else { Err(format!("{told} rows with an error")) }
    });
    running.stop();
    // The next one delivers what is left, and measures nothing.
    home.configure(&output);
    let running = home.start();
    eventually(Duration::from_secs(30), || difference(&by_key(home.rows()), &influx.rows()));
    running.stop();
    let rows = home.probe_rows();
    for name in names {
        assert!(rows.iter().any(|row| row.tag("target") == name && row.tag("site") == name), "{name}");
    }
}
