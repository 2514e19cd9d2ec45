//! Text of others made safe for XML: what may not stand there is left out, what means something is escaped.

/// A line of text without what XML forbids, without control characters, and without what turns the direction of writing;
/// cut to so many characters.
pub(super) fn plain(text: &str, most: usize) -> String {
    let mut kept = text.chars().filter(|c| allowed(*c)).map(|c| if c.is_whitespace() { ' ' } else { c });
    let mut line: String = kept.by_ref().take(most).collect();
    if kept.next().is_some() {
        line.pop();
        line.push('…');
    }
    line
}

fn allowed(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let no_character = u32::from(c) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}');
    !turns && !no_character && (!c.is_control() || c.is_whitespace())
}

/// Escaped for text and for attributes alike.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A figure for people, with about three digits that count.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 1e7 || (size > 0.0 && size < 0.001) => return format!("{value:.1e}"),
        _ if size == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// A name that differs where the text differs, for ids.
pub(super) fn mark(text: &str) -> String {
    // FNV-1a: no secret, and nobody gains by two that are alike.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{:08x}", hash >> 32 ^ hash & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_forbids_is_left_out_and_what_means_something_is_escaped() {
        let hostile = "a\u{0}b\u{8}\u{1b}[31m\u{fffe}\u{ffff}\u{202e}c\nd\u{85}<\"&'>\u{fdd0}\u{1fffe}";
        assert_eq!(plain(hostile, 100), "ab[31mc d <\"&'>");
        assert_eq!(escaped(&plain(hostile, 100)), "ab[31mc d &lt;&quot;&amp;&#39;&gt;");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!(plain("ääää", 4), "ääää");
        assert_eq!(plain("ääää", 3), "ää…");
        assert_eq!(plain(&"x".repeat(65_536), 80).chars().count(), 80);
    }

    #[test]
    fn figures_have_the_digits_that_count() {
        for (value, written) in [
            (0.0, "0"),
            (0.000_12, "1.2e-4"),
            (0.1234, "0.123"),
            (1.0, "1"),
            (1.256, "1.26"),
            (12.34, "12.3"),
            (100.4, "100"),
            (1e308, "1.0e308"),
        ] {
            assert_eq!(figure(value), written);
        }
    }
}
