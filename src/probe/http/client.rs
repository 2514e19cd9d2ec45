//! The HTTP clients: what all of them leave out, and which of them a request goes through.
//!
//! No proxy, no hidden redirect or retry, no cookies, no decompression, no resumed TLS session. Unless a probe asks for
//! kept connections every request makes its own, over HTTP/2 or HTTP/1.1 as the server chooses. A probe with kept
//! connections has a client for itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use reqwest::{Client, redirect, retry};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;

use super::hooks::{Names, Sessions, Stamps, Verifier};
use super::settings::Job;
use crate::clock::Clock;
use crate::resolve::Resolver;

/// How long a kept connection may be idle.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// The system's certificates are read again after this.
const TRUSTED_FOR: Duration = Duration::from_hours(24);
/// The most that the headers of an HTTP/2 answer may take. Of HTTP/1.1 the library's own limits hold, which cannot be set: 100
/// headers, 408 KiB.
const MOST_HEADERS: u32 = 64 * 1024;
/// What is read ahead of an HTTP/2 stream. Enough for a gigabit at 16 ms; more would be memory that nobody reads.
const WINDOW: u32 = 2 << 20;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This system trusts nobody.
    #[error("the system's certificates cannot be used")]
    Roots(#[source] rustls::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The client cannot be built.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// What protects a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    None,
    Verified,
    Unverified,
}

/// All clients of an engine.
pub struct Clients {
    resolver: Resolver,
    clock: Clock,
    fresh: Set,
    kept: RefCell<Vec<(Weak<Job>, Rc<Set>)>>,
}

/// One client for each protection, and when it was made.
#[derive(Default)]
struct Set(RefCell<Vec<(Protection, Client, Duration)>>);

impl Clients {
    /// None is made before it is needed: a system without certificates can still do plain HTTP.
    pub fn new(resolver: Resolver, clock: Clock) -> Self {
        crate::tls::install_provider();
        Self { resolver, clock, fresh: Set::default(), kept: RefCell::default() }
    }

    /// The client for a request of this job.
    pub fn of(&self, job: &Arc<Job>, scheme: &str) -> Result<Client, ClientError> {
        let protection = match (scheme, job.insecure) {
            ("http", _) => Protection::None,
            (_, false) => Protection::Verified,
            (_, true) => Protection::Unverified,
        };
        if job.reuse { self.kept(job).client(self, protection, 1) } else { self.fresh.client(self, protection, 0) }
    }

    /// The clients of one job, and those of jobs that are gone forgotten.
    fn kept(&self, job: &Arc<Job>) -> Rc<Set> {
        let mut kept = self.kept.borrow_mut();
        if let Some((_, set)) = kept.iter().find(|(of, _)| of.as_ptr() == Arc::as_ptr(job)) {
            return Rc::clone(set);
        }
        kept.retain(|(of, _)| of.strong_count() > 0);
        let set = Rc::<Set>::default();
        kept.push((Arc::downgrade(job), Rc::clone(&set)));
        set
    }
}

impl Set {
    fn client(&self, clients: &Clients, protection: Protection, idle: usize) -> Result<Client, ClientError> {
        let now = clients.clock.now().mono;
        let mut all = self.0.borrow_mut();
        all.retain(|(which, _, made)| *which != Protection::Verified || now.saturating_sub(*made) < TRUSTED_FOR);
        if let Some((_, client, _)) = all.iter().find(|(which, ..)| *which == protection) {
            return Ok(client.clone());
        }
        let client = build(&clients.resolver, protection, idle)?;
        all.push((protection, client.clone(), now));
        Ok(client)
    }
}

fn build(resolver: &Resolver, protection: Protection, idle: usize) -> Result<Client, ClientError> {
    let builder = Client::builder()
        .user_agent(concat!("qosd/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(KEPT_FOR)
        .http2_max_header_list_size(MOST_HEADERS)
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(WINDOW)
        .dns_resolver(Arc::new(Names(resolver.clone())))
        .connector_layer(Stamps);
    let builder = match protection {
        // Nothing is encrypted, so no certificate is read.
        Protection::None => builder.tls_certs_only([]),
        Protection::Verified | Protection::Unverified => builder.tls_backend_preconfigured(tls(protection)?),
    };
    builder.build().map_err(ClientError::Client)
}

fn tls(protection: Protection) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let judge = if protection == Protection::Verified {
        let system = rustls_platform_verifier::Verifier::new(Arc::clone(&provider)).map_err(ClientError::Roots)?;
        Some(Arc::new(system) as Arc<dyn ServerCertVerifier>)
    } else {
        None
    };
    let verifier = Verifier { judge, provider: Arc::clone(&provider) };
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(ClientError::Tls)?;
    let mut config = versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.resumption = Resumption::store(Arc::new(Sessions));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
