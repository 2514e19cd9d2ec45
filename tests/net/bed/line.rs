//! Line protocol as a database reads it, after its reference and not after qosd's code.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rows::Key;

/// Reads a line: what the row is about, and its fields.
pub(crate) fn parse(line: &str) -> Result<(Key, BTreeMap<String, Value>), String> {
    Cursor { rest: line }.line().map_err(|why| format!("{why}: {line}"))
}

struct Cursor<'a> {
    rest: &'a str,
}

impl Cursor<'_> {
    fn line(&mut self) -> Result<(Key, BTreeMap<String, Value>), String> {
        let measurement = self.name(&[',', ' ']);
        let mut tags = BTreeMap::new();
        while self.took(',') {
            let name = self.name(&['=']);
            self.expect('=')?;
            tags.insert(name, self.name(&[',', ' ']));
        }
        self.expect(' ')?;
        let mut fields = BTreeMap::new();
        loop {
            let name = self.name(&['=']);
            self.expect('=')?;
            fields.insert(name, self.value()?);
            if !self.took(',') {
                break;
            }
        }
        self.expect(' ')?;
        let time = self.rest.parse().map_err(|error| format!("no time: {error}"))?;
        Ok((Key { measurement, tags, time }, fields))
    }

    /// Up to one of these. A backslash counts before a special character alone.
    fn name(&mut self, ends: &[char]) -> String {
        let mut name = String::new();
        let mut rest = self.rest.chars();
        while let Some(c) = rest.clone().next() {
            if ends.contains(&c) {
                break;
            }
            rest.next();
            match rest.clone().next() {
                Some(next @ (',' | '=' | ' ')) if c == '\\' => {
                    rest.next();
                    name.push(next);
                }
                _ => name.push(c),
            }
        }
        self.rest = rest.as_str();
        name
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.took('"') {
            return self.text();
        }
        let end = self.rest.find([',', ' ']).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        let value = match number.strip_suffix('i') {
            Some(integer) => integer.parse::<i64>().map(Value::from).map_err(|error| error.to_string()),
            None => number.parse::<f64>().map(Value::from).map_err(|error| error.to_string()),
        };
        value.map_err(|error| format!("not a value: {error}"))
    }

    fn text(&mut self) -> Result<Value, String> {
        let mut text = String::new();
        let mut rest = self.rest.chars();
        while let Some(c) = rest.next() {
            match (c, rest.clone().next()) {
                ('"', _) => {
                    self.rest = rest.as_str();
                    return Ok(text.into());
                }
                ('\\', Some(next @ ('"' | '\\'))) => {
                    rest.next();
                    text.push(next);
                }
                _ => text.push(c),
            }
        }
        Err("a text without an end".to_owned())
    }

    fn took(&mut self, c: char) -> bool {
        let after = self.rest.strip_prefix(c);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.took(c) { Ok(()) } else { Err(format!("no {c:?} before {:?}", self.rest)) }
    }
}

#[test]
fn a_line_reads_back_as_what_it_says() {
    let (key, fields) = parse(r#"m\ x,a\,b=c\=d\ e,k=v f=1.5,g=-7i,h="say \"x, y=z\" \\ \n",i=0 42"#).expect("it is a line");
    assert_eq!((key.measurement.as_str(), key.time), ("m x", 42));
    let tags = [("a,b", "c=d e"), ("k", "v")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(key.tags, BTreeMap::from(tags));
    let expected = serde_json::json!({"f": 1.5, "g": -7, "h": "say \"x, y=z\" \\ \\n", "i": 0.0});
    assert_eq!(serde_json::to_value(fields).expect("it is JSON"), expected);
}

#[test]
fn what_is_no_line_is_said_to_be_none() {
    for bad in ["", "m", "m f=1", "m,t f=1 1", "m f=x 1", "m f=\"x 1", "m f=1 1\nm f=2 2", "m f=1 x"] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}
