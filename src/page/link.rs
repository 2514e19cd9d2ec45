//! Addresses within the page. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use url::form_urlencoded::Serializer;

use crate::measurement::Series;
use crate::probe::FIXED_TAGS;

/// What stands before the name of an own tag in a query.
pub const TAG: &str = "tag.";

/// The page of a series' target.
pub fn target(series: &Series) -> String {
    path("/probe", series)
}

/// The tags of a series that its config gives it.
pub fn own_tags(series: &Series) -> impl Iterator<Item = (&str, &str)> {
    series.tags().filter(|(key, _)| !FIXED_TAGS.contains(key))
}

/// What chooses a series among those of its target.
pub fn choice(series: &Series) -> Vec<(String, String)> {
    let told = ["family", "source"].into_iter().filter_map(|key| Some((key.to_owned(), series.tag(key)?.to_owned())));
    told.chain(own_tags(series).map(|(key, value)| (format!("{TAG}{key}"), value.to_owned()))).collect()
}

/// A chart of a series' target, with the ending of its form.
pub fn chart(series: &Series, ending: &str) -> String {
    format!("{}.{ending}", path("/chart", series))
}

fn path(below: &str, series: &Series) -> String {
    let mut path = below.to_owned();
    for key in ["kind", "probe", "target"] {
        path.push('/');
        path.extend(encoded(series.tag(key).unwrap_or_default()));
    }
    path
}

/// What means nothing but itself in an address (RFC 3986, section 2.3); all else is written as its bytes.
const OTHERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as a part of an address.
pub fn encoded(part: &str) -> PercentEncode<'_> {
    // Browsers take a part of dots for a way up, also when it is written as bytes: nothing can be done about that.
    utf8_percent_encode(part, OTHERS)
}

/// An address with a query; parameters without a value are left out.
pub fn with_query<'a>(path: &str, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(parameters.into_iter().filter(|(_, value)| !value.is_empty()));
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(target: &str) -> Series {
        Series::new("qos_metrics", [("kind", "ping"), ("probe", "core"), ("target", target)])
    }

    #[test]
    fn whatever_a_target_is_called_stays_one_part_of_the_path() {
        let table = [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001%3Adb8%3A%3A1"),
            ("a/../b?c#d", "a%2F..%2Fb%3Fc%23d"),
            ("ü <x>", "%C3%BC%20%3Cx%3E"),
        ];
        for (name, expected) in table {
            assert_eq!(target(&series(name)), format!("/probe/ping/core/{expected}"));
            assert_eq!(chart(&series(name), "svg"), format!("/chart/ping/core/{expected}.svg"));
        }
    }

    #[test]
    fn a_query_has_only_what_was_asked_for() {
        assert_eq!(with_query("/", [("q", ""), ("kind", "")]), "/");
        assert_eq!(with_query("/", [("q", "a&b c"), ("kind", ""), ("page", "2")]), "/?q=a%26b+c&page=2");
    }
}
