//! Where a request may go: what a target's URL must be, and whereto a server may send us. Pure.
//!
//! The operator's own targets are the operator's choice. A server's word is not: a redirect leads to http or https, and
//! from one origin to another only to an address that anybody could reach, so that no server makes this host ask its own
//! network (or a cloud's metadata service) in its stead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::{Method, StatusCode, Url};
use url::Host;

use crate::probe::target::check_labels;

/// The longest URL.
const LONGEST_URL: usize = 2048;

/// A target's URL, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The URL.
    pub url: Url,
    /// Its host as written, without scheme, port, brackets and path.
    pub host: String,
}

impl Place {
    /// Reads a target. What is wrong is said without the URL, which may hold a password.
    pub fn read(text: &str) -> Result<Self, String> {
        check_text(text)?;
        let after_scheme = text.split_once("://").filter(|(scheme, _)| is_http(&scheme.to_ascii_lowercase()));
        let (_, rest) = after_scheme.ok_or("expected a URL that begins with http:// or https://")?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("the URL must not hold a user or password; use headers_file".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        let port = format!(":{}", url.port_or_known_default().unwrap_or_default());
        let host = authority.strip_suffix(&port).unwrap_or(authority).trim_end_matches(':');
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        match url.host() {
            // 0x7f.1, 2130706433 and the like mean an address, but nobody sees which.
            Some(Host::Ipv4(address)) if address.to_string() != host => {
                Err(format!("the host is another way to write {address}, write that"))
            }
            Some(Host::Domain(_)) if host.contains('%') => Err("the host contains \"%\"".to_owned()),
            Some(Host::Domain(_)) if url.port() != Some(0) => check_labels(&host).map(|()| Self { url, host }),
            Some(_) if url.port() == Some(0) => Err("port 0 cannot be connected to".to_owned()),
            Some(_) => Ok(Self { url, host }),
            None => Err("the URL has no host".to_owned()),
        }
    }

    /// The URL of a download or upload: on the same server.
    pub fn join(&self, text: &str) -> Result<Url, String> {
        check_text(text)?;
        let url = self.url.join(text).map_err(|error| format!("is not a path or URL ({error})"))?;
        if url.origin() != self.url.origin() || has_user(&url) {
            return Err("leads to another server than the target; expected a path such as \"/file\"".to_owned());
        }
        Ok(url)
    }

    /// The address, if the URL has one in place of a name.
    pub fn address(&self) -> Option<IpAddr> {
        literal(&self.url)
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_URL {
        return Err(format!("is longer than {LONGEST_URL} bytes"));
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("contains a control character, white space or a backslash".to_owned());
    }
    if text.contains('#') {
        return Err("contains \"#\": a fragment is never sent to a server".to_owned());
    }
    Ok(())
}

fn is_http(scheme: &str) -> bool {
    matches!(scheme, "http" | "https")
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// The address that stands in a URL in place of a name; one that maps IPv4 into IPv6 is the IPv4 address.
pub fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(IpAddr::from(address).to_canonical()),
    }
}

/// What an answer means for the way of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is the answer.
    Here,
    /// The server sends us on.
    On(Url),
    /// The server sends us where we do not go.
    Refused(String),
}

/// Whereto a server may send us.
#[derive(Clone, Copy, Debug)]
pub struct Redirects<'a> {
    /// What the operator wrote: its own server is never out of bounds.
    pub home: &'a Url,
    /// How many redirects are followed; with 0 a redirect is an answer like any other.
    pub most: u32,
}

impl Redirects<'_> {
    /// What becomes of a request to `from` that was answered with `status` and `location`, when `followed` redirects were
    /// followed before.
    pub fn way(&self, method: &Method, from: &Url, status: StatusCode, location: Option<&[u8]>, followed: u32) -> Way {
        // 301, 302 and 303 turn a POST into a GET, which uploads nothing.
        let redirects = match status.as_u16() {
            301..=303 => *method == Method::GET,
            307 | 308 => true,
            _ => false,
        };
        let Some(location) = location.filter(|_| redirects && self.most > 0) else { return Way::Here };
        if followed >= self.most {
            return Way::Refused(format!("redirected more than {}", times(self.most)));
        }
        match self.next(from, location) {
            Ok(url) => Way::On(url),
            Err(why) => Way::Refused(format!("redirected to {why}")),
        }
    }

    /// Whether this is the server that the operator wrote.
    pub fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.home.origin()
    }

    fn next(&self, from: &Url, location: &[u8]) -> Result<Url, String> {
        let text = str::from_utf8(location).ok().filter(|text| text.len() <= LONGEST_URL).ok_or("what is no URL")?;
        let mut url = from.join(text).map_err(|_| "what is no URL")?;
        if !is_http(url.scheme()) {
            return Err("another scheme than http and https".to_owned());
        }
        if has_user(&url) {
            return Err("a URL with a user or password".to_owned());
        }
        url.set_fragment(None);
        match literal(&url).filter(|_| !self.is_home(&url)).and_then(|address| Some((address, not_public(address)?))) {
            Some((address, what)) => Err(format!("{address}, {what}")),
            None => Ok(url),
        }
    }
}

fn times(n: u32) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

/// What kind of address this is, if a server may not send us there.
pub fn not_public(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => not_public_v4(address),
        IpAddr::V6(address) => not_public_v6(address),
    }
}

fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_link_local() => Some("a link-local address"),
        _ if address.is_private() => Some("a private address"),
        _ if address.is_multicast() => Some("a multicast address"),
        [0, ..] => Some("an address of this host"),
        [100, 64..=127, ..] => Some("an address behind a carrier's translation"),
        [198, 18 | 19, ..] => Some("an address for benchmarks"),
        [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
        not_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an address of this host"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        // IPv4 inside: compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Some("an address of a local translation"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("a private address"),
        [first, ..] if first & 0xff80 == 0xfe80 => Some("a link-local address"),
        [first, ..] if first & 0xff00 == 0xff00 => Some("a multicast address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> String {
        Place::read(text).unwrap_or_else(|why| panic!("{text}: {why}")).host
    }

    #[test]
    fn the_host_is_as_it_was_written() {
        let table = [
            ("http://192.0.2.1/", "192.0.2.1"),
            ("http://192.0.2.1", "192.0.2.1"),
            ("HTTP://Portal.Example:8080/a?b=c:d", "Portal.Example"),
            ("https://host.example:443", "host.example"),
            ("https://host.example?x=/", "host.example"),
            ("http://[2001:db8::80]:80/", "2001:db8::80"),
            ("http://[2001:db8::80]", "2001:db8::80"),
            ("http://köln.example/", "köln.example"),
        ];
        for (url, expected) in table {
            assert_eq!(host(url), expected, "{url}");
        }
    }

    /// (H12)
    #[test]
    fn h12_what_is_no_plain_url_is_refused_without_being_repeated() {
        let table = [
            ("", "expected a URL that begins with http:// or https://"),
            ("host.example", "expected a URL that begins with http:// or https://"),
            ("ftp://c4n4ry/", "expected a URL that begins with http:// or https://"),
            ("http:c4n4ry", "expected a URL that begins with http:// or https://"),
            ("http://me:c4n4ry@h/", "the URL must not hold a user or password; use headers_file"),
            ("http://@c4n4ry/", "the URL must not hold a user or password; use headers_file"),
            ("http://h/\nc4n4ry", "contains a control character, white space or a backslash"),
            ("http://h/c4n4ry x", "contains a control character, white space or a backslash"),
            ("http:\\\\c4n4ry", "contains a control character, white space or a backslash"),
            ("http://h/#c4n4ry", "contains \"#\": a fragment is never sent to a server"),
            ("http://0x7f.1/", "the host is another way to write 127.0.0.1, write that"),
            ("http://2852039166/", "the host is another way to write 169.254.169.254, write that"),
            ("http://a..b/", "\"a..b\" is no host name: nothing stands between two of its dots, or before the first"),
            ("http://%31%39.example/", "the host contains \"%\""),
            ("http://h:0/", "port 0 cannot be connected to"),
        ];
        for (url, expected) in table {
            let why = Place::read(url).unwrap_err();
            assert_eq!(why, expected, "{url}");
            assert!(!why.contains("c4n4ry"));
        }
        let long = format!("http://h/{}", "a".repeat(64 * 1024));
        assert_eq!(Place::read(&long).unwrap_err(), "is longer than 2048 bytes");
    }

    #[test]
    fn a_download_is_on_the_targets_server() {
        let place = Place::read("http://h:81/a/b?c=d").unwrap();
        for (path, expected) in [("/f?bytes=1", "http://h:81/f?bytes=1"), ("f", "http://h:81/a/f"), ("http://h:81/x", "http://h:81/x")] {
            assert_eq!(place.join(path).unwrap().as_str(), expected);
        }
        for path in ["http://other/x", "//other/x", "https://h:81/x", "http://u:p@h:81/x", "file:///etc/passwd"] {
            assert!(place.join(path).unwrap_err().starts_with("leads to another server"), "{path}");
        }
    }

    fn get(from: &str, status: u16, location: &str, followed: u32) -> Way {
        let (from, status) = (from.parse().unwrap(), StatusCode::from_u16(status).unwrap());
        Redirects { home: &from, most: 5 }.way(&Method::GET, &from, status, Some(location.as_bytes()), followed)
    }

    #[test]
    fn redirects_are_followed_as_often_as_allowed() {
        let on = Way::On("http://a.example/x".parse().unwrap());
        for status in [301, 302, 303, 307, 308] {
            assert_eq!(get("http://a.example/", status, "/x", 4), on);
        }
        assert_eq!(get("http://a.example/", 304, "/x", 0), Way::Here);
        assert_eq!(get("http://a.example/", 200, "/x", 0), Way::Here);
        assert_eq!(get("http://a.example/", 301, "/x", 5), Way::Refused("redirected more than 5 times".to_owned()));
        let from = "http://a.example/".parse().unwrap();
        let way = |method: &Method, status, location, most| Redirects { home: &from, most }.way(method, &from, status, location, 0);
        let place = Some(&b"/x"[..]);
        assert_eq!(way(&Method::GET, StatusCode::FOUND, place, 0), Way::Here, "0 = the redirect is the answer");
        assert_eq!(way(&Method::GET, StatusCode::FOUND, None, 5), Way::Here, "without a place to go");
        assert_eq!(way(&Method::POST, StatusCode::FOUND, place, 5), Way::Here, "it would become a GET");
        assert_eq!(way(&Method::POST, StatusCode::TEMPORARY_REDIRECT, place, 5), on);
    }

    /// (H7)
    #[test]
    fn h7_a_redirect_to_another_scheme_is_refused() {
        for location in ["file:///etc/passwd", "ftp://a.example/", "javascript:alert(1)", "gopher://a.example:70/", "data:,x"] {
            let refused = Way::Refused("redirected to another scheme than http and https".to_owned());
            assert_eq!(get("http://a.example/", 302, location, 0), refused);
        }
        assert_eq!(
            get("http://a.example/", 302, "http://u:p@b.example/", 0),
            Way::Refused("redirected to a URL with a user or password".to_owned())
        );
        assert_eq!(get("http://a.example/", 302, "http://", 0), Way::Refused("redirected to what is no URL".to_owned()));
    }

    /// (H6)
    #[test]
    fn h6_a_redirect_to_an_address_that_is_not_public_is_refused_however_it_is_written() {
        let inside = [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0xA9FEA9FE/",
            "http://169.254.169.254/latest/meta-data/",
            "http://10.0.0.1/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
            "http://0/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "//10.0.0.1/x",
        ];
        for location in inside {
            let way = get("http://a.example/", 302, location, 0);
            assert!(matches!(&way, Way::Refused(why) if why.ends_with(" address") || why.contains(", an address")), "{location}: {way:?}");
        }
        for location in ["http://192.0.2.1/", "http://[2001:db8::1]/", "http://[64:ff9b::192.0.2.1]/"] {
            assert!(matches!(get("http://a.example/", 302, location, 0), Way::On(_)), "{location}");
        }
    }

    #[test]
    fn a_server_of_the_operators_own_may_send_us_to_itself() {
        assert!(matches!(get("http://127.0.0.1:80/", 302, "http://127.0.0.1/x", 0), Way::On(_)));
        assert!(matches!(get("http://127.0.0.1/", 302, "http://127.0.0.1:81/x", 0), Way::Refused(_)), "another port is another server");
    }
}
