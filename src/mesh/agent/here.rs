//! The addresses of this host, as the kernel has them now.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

use super::plan::Here;

/// Reads them; none if the kernel does not say.
pub fn here() -> Here {
    let mut here = Here::default();
    let Ok(all) = getifaddrs() else { return here };
    for InterfaceAddress { address, netmask, broadcast, .. } in all {
        let Some(address) = address.as_ref().and_then(ip) else { continue };
        let network = netmask.as_ref().and_then(ip).and_then(|mask| IpNet::with_netmask(address, mask).ok());
        here.networks.push(network.unwrap_or_else(|| IpNet::from(address)));
        here.broadcasts.extend(broadcast.as_ref().and_then(ip).filter(|broadcast| *broadcast != address));
    }
    here
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_one_of_this_host_with_its_network() {
        let here = here();
        assert!(here.networks.contains(&"127.0.0.1/8".parse().unwrap()), "{here:?}");
    }
}
