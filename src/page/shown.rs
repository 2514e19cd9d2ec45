//! Texts of others, fit to be seen: what cannot be seen, or turns round what stands beside it, is written as what it is, and
//! what is too long is cut. Pure. Every text that qosd did not write itself goes through here before it is in a page; that it
//! is text there, and no HTML, is the template's doing.

use std::fmt::{self, Write};

use crate::telemetry::is_unfit;

/// How many characters of a text are shown.
const MOST: usize = 300;

/// A text that is fit to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown(Box<str>);

impl Shown {
    /// Whether there is nothing to be seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a text fit to be seen. One that was cut says how long it is.
pub fn shown(text: &str) -> Shown {
    if text.len() <= MOST && !text.contains(is_hidden) {
        return Shown(text.into());
    }
    let mut whole = String::with_capacity(text.len().min(2 * MOST));
    let mut rest = text.chars();
    for c in rest.by_ref().take(MOST) {
        push(&mut whole, c);
    }
    let left = rest.count();
    if left > 0 {
        write!(whole, "… ({} characters)", MOST + left).expect("a String takes everything");
    }
    Shown(whole.into())
}

fn push(text: &mut String, c: char) {
    match c {
        // Unicode has pictures of the first 32 and of DEL.
        '\0'..='\x1f' => text.push(char::from_u32(0x2400 + u32::from(c)).expect("there is a picture of each")),
        '\x7f' => text.push('\u{2421}'),
        c if is_hidden(c) => write!(text, "⟨U+{:04X}⟩", u32::from(c)).expect("a String takes everything"),
        c => text.push(c),
    }
}

/// What a line of the log is rid of too, and what turns the direction of writing, takes no room, or is a tag.
fn is_hidden(c: char) -> bool {
    is_unfit(c)
        || matches!(c, '\t' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["", "a b", "grün 日本 – <script>&amp;\"'", "e\u{301}"] {
            assert_eq!(shown(text).to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_written_as_what_it_is() {
        let table = [
            ("a\nb\r\t", "a␊b␍␉"),
            ("\0\x1b[31m\x7f", "␀␛[31m␡"),
            ("\u{85}\u{9b}", "⟨U+0085⟩⟨U+009B⟩"),
            ("\u{202e}cod.exe\u{2066}", "⟨U+202E⟩cod.exe⟨U+2066⟩"),
            ("\u{2028}\u{200b}\u{feff}\u{e0041}", "⟨U+2028⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+E0041⟩"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).to_string(), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_and_says_how_long_it_is() {
        let long = shown(&"ä".repeat(65_536)).to_string();
        assert!(long.ends_with("ä… (65536 characters)"), "{long}");
        assert!(long.chars().count() < 350);
        // Exactly as much as is shown, in more bytes than that.
        assert_eq!(shown(&"ä".repeat(300)).to_string(), "ä".repeat(300));
    }

    #[test]
    fn nothing_that_is_shown_is_hidden_any_more() {
        let all: String = (0..=0x1ff).chain(0x2000..=0x20ff).filter_map(char::from_u32).collect();
        for part in all.chars().collect::<Vec<_>>().chunks(100) {
            let text = shown(&part.iter().collect::<String>()).to_string();
            assert!(!text.contains(is_hidden), "{text}");
        }
    }
}
