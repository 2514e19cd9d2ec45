//! Names to addresses, on a thread of its own so that a slow name server moves no packet.
//!
//! Answers are cached for their TTL by hickory-resolver. When a name does not resolve any more, its last good address is
//! used for a day and marked stale: a measurement of the network should not end with the name server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::sync::oneshot;

use crate::clock::Clock;

/// The longest that a look-up may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How long one question to one server may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a last good address may stand in.
const STALE_FOR: Duration = Duration::from_hours(24);
/// However long a TTL says, names are asked for again after this.
const LONGEST_TTL: Duration = Duration::from_hours(1);
/// A name that did not exist may exist soon.
const LONGEST_NEGATIVE_TTL: Duration = Duration::from_secs(10);
/// The network can change addresses as often as it likes; the log says so at INFO once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How many names are remembered with their last good address.
const REMEMBERED: usize = 65_536;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// IPv4, and IPv6 if there is none.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// An address for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The address.
    pub address: IpAddr,
    /// Whether it is the last good one because the name does not resolve now.
    pub stale: bool,
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// It does not exist, or has no address of the wanted family.
    #[error("{0} has no address: {1}")]
    NoAddress(String, String),
    /// Nobody answered.
    #[error("{0}: no answer from the name servers within {DEADLINE:?}")]
    Timeout(String),
    /// The look-up failed.
    #[error("{0}: {1}")]
    Failed(String, String),
}

/// Resolves names. Clones share caches and thread.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
    thread: ArbiterHandle,
}

struct Shared {
    clock: Clock,
    system: Mutex<System>,
    last_good: Mutex<HashMap<(String, Wanted), (IpAddr, Duration)>>,
    /// When a changed address was last told, whoever's it was: names whose answers rotate are no news.
    told: Mutex<Option<Duration>>,
}

/// What the system's configuration makes, until it changes.
#[derive(Default)]
struct System {
    read_from: Option<std::time::SystemTime>,
    resolvers: HashMap<Wanted, TokioResolver>,
}

impl Resolver {
    /// With a thread of its own, which lives as long as the process.
    pub fn start(clock: Clock) -> Self {
        let shared = Shared { clock, system: Mutex::default(), last_good: Mutex::default(), told: Mutex::default() };
        Self { shared: Arc::new(shared), thread: Arbiter::new().handle() }
    }

    /// An address of `name`. Always answers within [`DEADLINE`] and a little.
    pub async fn lookup(&self, name: &str, wanted: Wanted) -> Result<Resolved, ResolveError> {
        let (reply, answer) = oneshot::channel();
        let (shared, owned) = (Arc::clone(&self.shared), name.to_owned());
        self.thread.spawn(async move {
            let addresses = ask(&shared, &owned, wanted).await;
            // The asker may have given up; then nobody needs the answer.
            let _ = reply.send(shared.judge(&owned, wanted, addresses));
        });
        answer.await.unwrap_or_else(|_| Err(ResolveError::Failed(name.to_owned(), "the resolver's thread has ended".to_owned())))
    }
}

async fn ask(shared: &Shared, name: &str, wanted: Wanted) -> Result<Vec<IpAddr>, ResolveError> {
    let resolver = shared.resolver(wanted).map_err(|error| ResolveError::Failed(name.to_owned(), error))?;
    match tokio::time::timeout(DEADLINE, resolver.lookup_ip(name)).await {
        Err(_) => Err(ResolveError::Timeout(name.to_owned())),
        Ok(Ok(found)) => Ok(found.iter().collect()),
        Ok(Err(error)) if error.is_nx_domain() => Err(ResolveError::NoAddress(name.to_owned(), "there is no such name".to_owned())),
        Ok(Err(error)) if error.is_no_records_found() => Err(ResolveError::NoAddress(name.to_owned(), "the answer is empty".to_owned())),
        Ok(Err(error)) => Err(ResolveError::Failed(name.to_owned(), error.to_string())),
    }
}

impl Shared {
    /// A resolver after the system's configuration as it is now.
    fn resolver(&self, wanted: Wanted) -> Result<TokioResolver, String> {
        let changed = std::fs::metadata(RESOLV_CONF).and_then(|file| file.modified()).map_err(|error| format!("{RESOLV_CONF}: {error}"))?;
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if system.read_from != Some(changed) {
            *system = System { read_from: Some(changed), resolvers: HashMap::new() };
        }
        if let Some(known) = system.resolvers.get(&wanted) {
            return Ok(known.clone());
        }
        let resolver = build(wanted).map_err(|error| format!("{RESOLV_CONF}: {error}"))?;
        system.resolvers.insert(wanted, resolver.clone());
        Ok(resolver)
    }

    fn tell_change(&self, name: &str, before: IpAddr, address: IpAddr, now: Duration) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.saturating_sub(told) > TOLD_EVERY) {
            *told = Some(now);
            tracing::info!(name, %before, %address, "address of a name changed");
        } else {
            tracing::debug!(name, %before, %address, "address of a name changed");
        }
    }

    /// Chooses among fresh addresses, the one in use first, or falls back to the last good one.
    fn judge(&self, name: &str, wanted: Wanted, addresses: Result<Vec<IpAddr>, ResolveError>) -> Result<Resolved, ResolveError> {
        let now = self.clock.now().mono;
        let key = (name.to_owned(), wanted);
        let mut last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last_good.get(&key).copied();
        match addresses {
            Ok(addresses) => {
                let in_use = known.map(|(address, _)| address);
                let chosen = in_use.filter(|address| addresses.contains(address)).or_else(|| addresses.iter().min().copied());
                let address = chosen.ok_or_else(|| ResolveError::NoAddress(name.to_owned(), "an empty answer".to_owned()))?;
                if let Some(before) = in_use.filter(|before| *before != address) {
                    self.tell_change(name, before, address, now);
                }
                if last_good.len() < REMEMBERED || known.is_some() {
                    last_good.insert(key, (address, now));
                }
                Ok(Resolved { address, stale: false })
            }
            Err(error) => match known.filter(|(_, seen)| now.saturating_sub(*seen) <= STALE_FOR) {
                Some((address, _)) => Ok(Resolved { address, stale: true }),
                None => Err(error),
            },
        }
    }
}

fn build(wanted: Wanted) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = match wanted {
        Wanted::Any => LookupIpStrategy::Ipv4thenIpv6,
        Wanted::V4 => LookupIpStrategy::Ipv4Only,
        Wanted::V6 => LookupIpStrategy::Ipv6Only,
    };
    options.timeout = ATTEMPT;
    options.attempts = 1;
    options.positive_max_ttl = Some(LONGEST_TTL);
    options.negative_max_ttl = Some(LONGEST_NEGATIVE_TTL);
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared { clock: Clock::system(), system: Mutex::default(), last_good: Mutex::default(), told: Mutex::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn failed() -> Result<Vec<IpAddr>, ResolveError> {
        Err(ResolveError::Timeout("a.example".to_owned()))
    }

    #[tokio::test]
    async fn the_address_in_use_is_kept_while_it_is_among_the_answers() {
        let shared = shared();
        let judge = |addresses: &[&str]| {
            shared.judge("a.example", Wanted::Any, Ok(addresses.iter().map(|text| ip(text)).collect())).unwrap().address
        };
        assert_eq!(judge(&["192.0.2.2", "192.0.2.3"]), ip("192.0.2.2"));
        assert_eq!(judge(&["192.0.2.1", "192.0.2.2"]), ip("192.0.2.2"));
        assert_eq!(judge(&["192.0.2.3", "192.0.2.1"]), ip("192.0.2.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_address_stands_in_for_a_day() {
        let shared = shared();
        assert!(shared.judge("a.example", Wanted::Any, failed()).is_err());
        shared.judge("a.example", Wanted::Any, Ok(vec![ip("192.0.2.1")])).unwrap();
        assert_eq!(shared.judge("a.example", Wanted::Any, failed()), Ok(Resolved { address: ip("192.0.2.1"), stale: true }));
        assert!(shared.judge("a.example", Wanted::V6, failed()).is_err(), "another family is another question");
        tokio::time::advance(STALE_FOR + Duration::from_secs(1)).await;
        assert!(shared.judge("a.example", Wanted::Any, failed()).is_err());
    }

    #[test]
    fn the_hosts_file_is_read() {
        actix_rt::System::new().block_on(async {
            let resolver = Resolver::start(Clock::system());
            assert!(resolver.lookup("localhost", Wanted::V4).await.unwrap().address.is_loopback());
        });
    }
}
