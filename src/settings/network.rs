//! Networks and endpoints in the config.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `192.0.2.0/24`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl Network {
    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        // A socket for both families sees IPv4 as mapped into IPv6.
        self.0.contains(&address.to_canonical())
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let form = "an address or a network such as \"192.0.2.0/24\"";
        network.map(Self).map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &form))
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// `127.0.0.1:9876` or `[::1]:9876`: an address of this host with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint(pub SocketAddr);

impl Endpoint {
    /// Whether only one of two can be listened on, whatever the host. If `[::]` takes IPv4 as well, the host says.
    pub fn collides(self, other: Self) -> bool {
        let (one, other) = (self.0, other.0);
        let all = |address: SocketAddr| address.ip().is_unspecified();
        let scope = |address| match address {
            SocketAddr::V6(address) => address.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let same_address =
            (one.ip() == other.ip() && scope(one) == scope(other)) || (one.is_ipv4() == other.is_ipv4() && (all(one) || all(other)));
        same_address && one.port() == other.port() && one.port() != 0
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let form = "an address, not a name, with a port such as \"127.0.0.1:9876\" or \"[::1]:9876\"";
        text.parse().map(Self).map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &form))
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
