//! One event is one line: what would break a line, or make a terminal do something, is written as what it is. Pure.
//!
//! Texts of others reach the log: names from a config, from DNS or from a peer, what a server said, what a panic held. The
//! formats escape most of it, but neither of them all.

use std::borrow::Cow;
use std::fmt::Write;

/// The line with its end and nothing else that is not to be seen. `colours`, if there are any, stay.
pub(super) fn one_line(line: &[u8], colours: bool) -> Cow<'_, [u8]> {
    let text = String::from_utf8_lossy(line);
    let body = text.strip_suffix('\n').unwrap_or(&text);
    if !body.contains(is_unfit) {
        return Cow::Borrowed(line);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for (at, c) in body.char_indices() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            ESCAPE if colours && is_colour(&body[at..]) => safe.push(c),
            c if is_unfit(c) => write!(safe, "\\u{:04x}", u32::from(c)).expect("a String takes everything"),
            c => safe.push(c),
        }
    }
    safe.push_str(&text[body.len()..]);
    Cow::Owned(safe.into_bytes())
}

const ESCAPE: char = '\x1b';

/// Control characters, and the separators of lines and paragraphs that some readers obey.
pub(crate) fn is_unfit(c: char) -> bool {
    (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether a text begins with what sets a colour or weight: the worst that it can do is to be ugly.
fn is_colour(text: &str) -> bool {
    let after = text.strip_prefix("\x1b[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    after.is_some_and(|rest| rest.starts_with('m'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> String {
        String::from_utf8(one_line(line.as_bytes(), false).into_owned()).unwrap()
    }

    #[test]
    fn a_line_of_plain_text_stays_as_it_is() {
        for line in ["", "\n", "a b\n", "grün\t[31m\n", "without an end"] {
            assert!(matches!(one_line(line.as_bytes(), false), Cow::Borrowed(_)), "{line:?}");
            assert_eq!(one(line), line);
        }
    }

    #[test]
    fn colours_stay_where_there_are_any_and_nothing_else_that_steers_a_terminal() {
        let line = "\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;title\x07\x1b[31\n";
        let coloured = String::from_utf8(one_line(line.as_bytes(), true).into_owned()).unwrap();
        assert_eq!(coloured, "\x1b[1;31mred\x1b[0m \\u001b[2J\\u001b]0;title\\u0007\\u001b[31\n");
        assert_eq!(one("\x1b[31mred\n"), "\\u001b[31mred\n");
    }

    #[test]
    fn what_breaks_a_line_is_written_as_what_it_is() {
        assert_eq!(one("a\nERROR forged\r\n\n"), "a\\nERROR forged\\r\\n\n");
        assert_eq!(one("\0\x07\u{7f}\u{85}\u{9b}31m\u{2028}\n"), "\\u0000\\u0007\\u007f\\u0085\\u009b31m\\u2028\n");
    }

    #[test]
    fn json_stays_json() {
        let text = "\u{7f}\u{85}\u{9b}\u{2029}";
        let line = serde_json::to_string(text).unwrap();
        assert_eq!(serde_json::from_str::<String>(&one(&line)).unwrap(), text);
    }
}
