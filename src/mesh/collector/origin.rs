//! Who calls, as limits count it: an IPv4 address, or the /64 of an IPv6 address. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Hops of `X-Forwarded-For` that are looked at, from the last one on.
const MOST_HOPS: usize = 16;

/// Whoever shares this shares the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// This host: its unix socket, without a word of who is behind.
    Local,
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first half of IPv6 addresses: a host may use any of its /64.
    V6(u64),
}

impl Origin {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((u128::from(address) >> 64) as u64),
        }
    }

    /// Who is behind a connection. `peer` is none for a unix socket. What the connection says of others is believed of a
    /// trusted peer alone, and only up to the first address, from the last one backwards, that is not trusted itself.
    pub fn behind<'a>(peer: Option<IpAddr>, forwarded: impl DoubleEndedIterator<Item = &'a str>, trusts: impl Fn(IpAddr) -> bool) -> Self {
        let mut last = peer;
        if peer.is_none_or(&trusts) {
            let hops = forwarded.flat_map(|value| value.split(',')).rev().take(MOST_HOPS);
            // An address that none of them can be sure of ends the chain: the hop that told it stands for it.
            for hop in hops.map_while(|hop| address(hop.trim())) {
                last = Some(hop);
                if !trusts(hop) {
                    break;
                }
            }
        }
        last.map_or(Self::Local, Self::of)
    }
}

/// An address, as proxies write it: bare, in brackets, with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::V4(address) => address.fmt(f),
            Self::V6(half) => write!(f, "{}/64", Ipv6Addr::from(u128::from(*half) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(peer: Option<&str>, forwarded: &[&str]) -> String {
        let trusts = |address: IpAddr| ["127.0.0.1", "10.0.0.1"].iter().any(|proxy| address == proxy.parse::<IpAddr>().unwrap());
        Origin::behind(peer.map(|peer| peer.parse().unwrap()), forwarded.iter().copied(), trusts).to_string()
    }

    /// M14.
    #[test]
    fn what_a_stranger_says_of_others_is_not_believed() {
        assert_eq!(behind(Some("192.0.2.1"), &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(behind(Some("127.0.0.1"), &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(behind(None, &["198.51.100.1"]), "198.51.100.1");
    }

    /// M14.
    #[test]
    fn the_last_address_that_is_not_trusted_counts_and_none_before_it() {
        for (forwarded, expected) in [
            (&["203.0.113.1, 198.51.100.1"][..], "198.51.100.1"),
            (&["203.0.113.1", "198.51.100.1"], "198.51.100.1"),
            (&["203.0.113.1, 198.51.100.1, 10.0.0.1"], "198.51.100.1"),
            (&["203.0.113.1, nonsense, 10.0.0.1"], "10.0.0.1"),
            (&["198.51.100.1:4711"], "198.51.100.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::/64"),
            (&["[2001:db8::1]"], "2001:db8::/64"),
            (&["203.0.113.1,"], "127.0.0.1"),
            (&[""], "127.0.0.1"),
            (&[], "127.0.0.1"),
            (&["127.0.0.1"], "127.0.0.1"),
        ] {
            assert_eq!(behind(Some("127.0.0.1"), forwarded), expected, "{forwarded:?}");
        }
        assert_eq!(behind(None, &[]), "local");
        assert_eq!(behind(None, &["nonsense"]), "local");
    }

    #[test]
    fn addresses_of_a_64_are_one_and_mapped_ones_are_what_they_map() {
        let of = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
