//! Sites on one bridge, as members of an internet exchange.

use super::net::Namespace;

/// The hub, in which the bridge is, and the sites around it.
pub(crate) struct Bridge {
    /// Where the collector and the database are.
    pub(crate) hub: Namespace,
    /// The sites, from number 1 on.
    pub(crate) sites: Vec<Namespace>,
}

/// The hub's address.
pub(crate) const HUB: &str = "10.72.0.254";

/// A site's address.
pub(crate) fn address(site: usize) -> String {
    format!("10.72.0.{site}")
}

impl Bridge {
    /// So many sites, connected.
    pub(crate) fn new(sites: usize) -> Self {
        let hub = Namespace::new();
        hub.ip("link add br0 type bridge");
        hub.ip(&format!("address add {HUB}/24 dev br0"));
        hub.ip("link set br0 up");
        let sites = (1..=sites).map(|number| site(&hub, number)).collect();
        Self { hub, sites }
    }

    /// A site, by its number.
    pub(crate) fn site(&self, number: usize) -> &Namespace {
        &self.sites[number - 1]
    }

    /// Pulls a site's cable out of the bridge, or puts it in.
    pub(crate) fn cable(&self, site: usize, plugged: bool) {
        self.hub.ip(&format!("link set site{site} {}", if plugged { "up" } else { "down" }));
    }
}

fn site(hub: &Namespace, number: usize) -> Namespace {
    let site = Namespace::new();
    site.ip(&format!("link add up0 type veth peer name site{number} netns {}", hub.path().display()));
    site.ip(&format!("address add {}/24 dev up0", address(number)));
    site.ip("link set up0 up");
    hub.ip(&format!("link set site{number} master br0 up"));
    site
}
