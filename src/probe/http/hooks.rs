//! What happens inside of the HTTP client, noted from within: three hooks that write into the request's own [`Trace`].
//!
//! The client asks our resolver for names, builds its connections through our layer, and asks our (always empty) session
//! store as it begins TLS. Each of the three is called while the request is polled, so a task-local variable keeps requests
//! apart, however many are on their way at once. As the store is empty, no TLS session is ever resumed.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, NamedGroup, SignatureScheme};
use tower_layer::Layer;
use tower_service::Service;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::destination::not_public;
use super::timing::Marks;
use crate::clock::{Clock, Timestamp, nanos};
use crate::resolve::{ResolveError, Resolved, Resolver, Wanted};

tokio::task_local! {
    static TRACE: Rc<Trace>;
}

/// One exchange with a server, as it goes on.
pub struct Trace {
    clock: Clock,
    wanted: Wanted,
    /// Whether it may only go to addresses that anybody could reach.
    public_only: bool,
    seen: RefCell<Seen>,
}

/// What was seen of an exchange.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What happened when.
    pub marks: Marks,
    /// The address that the name led to.
    pub resolved: Option<Resolved>,
    /// Why the name led nowhere.
    pub lookup_failed: Option<ResolveError>,
    /// Where the name led that we do not go.
    pub forbidden: Option<String>,
    /// Until when the server's certificate is valid.
    pub expires: Option<Timestamp>,
}

impl Trace {
    /// Of an exchange that begins now.
    pub fn begin(clock: &Clock, wanted: Wanted, public_only: bool) -> Rc<Self> {
        Self::begun(clock, clock.now().mono, wanted, public_only)
    }

    /// Of the same exchange once more, as its connection was of no use.
    pub fn again(&self) -> Rc<Self> {
        Self::begun(&self.clock, self.seen().marks.begun, self.wanted, self.public_only)
    }

    fn begun(clock: &Clock, begun: Duration, wanted: Wanted, public_only: bool) -> Rc<Self> {
        let marks = Marks { begun, ..Marks::default() };
        let seen = RefCell::new(Seen { marks, ..Seen::default() });
        Rc::new(Self { clock: clock.clone(), wanted, public_only, seen })
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// It goes to an address that stood in the URL.
    pub fn aim(&self, resolved: Resolved) {
        self.seen.borrow_mut().resolved = Some(resolved);
    }

    /// The head of the answer is there.
    pub fn answered(&self) {
        self.seen.borrow_mut().marks.answered = Some(self.clock.now().mono);
    }

    /// Polls a request so that the hooks find this trace.
    pub async fn follow<F: Future>(self: &Rc<Self>, request: F) -> F::Output {
        TRACE.scope(Rc::clone(self), request).await
    }

    fn mark(&self, set: impl FnOnce(&mut Marks) -> &mut Option<Duration>) {
        let now = self.clock.now().mono;
        set(&mut self.seen.borrow_mut().marks).get_or_insert(now);
    }
}

/// Lets the trace of this request note something; a connection without one is nobody's measurement.
fn note<T>(act: impl FnOnce(&Trace) -> T) -> Option<T> {
    TRACE.try_with(|trace| act(trace)).ok()
}

/// The hook for names.
pub struct Names(pub Resolver);

/// Why a connection is not made; the trace has the details.
#[derive(Debug, thiserror::Error)]
#[error("no address to connect to")]
struct NoAddress;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let wanted = note(|trace| {
                trace.mark(|marks| &mut marks.asked);
                trace.wanted
            });
            match resolver.lookup(name.as_str(), wanted.unwrap_or(Wanted::Any)).await {
                Ok(found) if note(|trace| trace.arrive(found)).unwrap_or(true) => {
                    Ok(Box::new(std::iter::once(SocketAddr::new(found.address, 0))) as Addrs)
                }
                Ok(_) => Err(NoAddress.into()),
                Err(error) => {
                    note(|trace| trace.seen.borrow_mut().lookup_failed = Some(error));
                    Err(NoAddress.into())
                }
            }
        })
    }
}

impl Trace {
    /// The name has an address. False if we do not go there.
    fn arrive(&self, resolved: Resolved) -> bool {
        self.mark(|marks| &mut marks.resolved);
        let forbidden = not_public(resolved.address).filter(|_| self.public_only);
        let mut seen = self.seen.borrow_mut();
        seen.resolved = Some(resolved);
        seen.forbidden = forbidden.map(|what| format!("{}, {what}", resolved.address));
        forbidden.is_none()
    }
}

/// The hook for connections: notes when one is wanted, and when it stands.
#[derive(Clone)]
pub struct Stamps;

/// See [`Stamps`].
#[derive(Clone)]
pub struct Stamped<S>(S);

impl<S> Layer<S> for Stamps {
    type Service = Stamped<S>;

    fn layer(&self, inner: S) -> Stamped<S> {
        Stamped(inner)
    }
}

impl<R, S: Service<R>> Service<R> for Stamped<S>
where
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        note(|trace| trace.mark(|marks| &mut marks.dialled));
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connection = connecting.await?;
            note(|trace| trace.mark(|marks| &mut marks.connected));
            Ok(connection)
        })
    }
}

/// The hook for TLS: notes when it begins, and remembers no session.
#[derive(Debug)]
pub struct Sessions;

impl ClientSessionStore for Sessions {
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        note(|trace| trace.mark(|marks| &mut marks.tls));
        None
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// Notes until when the server's certificate is valid, good or bad, then lets somebody else judge it.
#[derive(Debug)]
pub struct Verifier {
    /// Who judges; nobody = every certificate is good, but the server must have its key all the same.
    pub judge: Option<Arc<dyn ServerCertVerifier>>,
    /// How signatures are checked.
    pub provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(expires) = expires(leaf) {
            note(|trace| trace.seen.borrow_mut().expires = Some(expires));
        }
        match &self.judge {
            Some(judge) => judge.verify_server_cert(leaf, chain, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Until when a certificate is valid, if it can be read.
fn expires(certificate: &[u8]) -> Option<Timestamp> {
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(Timestamp::from_nanos(nanos(certificate.tbs_certificate.validity.not_after.to_unix_duration())))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2049, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        assert_eq!(expires(certificate.der()).unwrap().to_string(), "2049-12-31T00:00:00.000000000Z");
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(9999, 12, 31);
        let forever = parameters.self_signed(&key).unwrap();
        assert_eq!(expires(forever.der()), Some(Timestamp::from_nanos(i64::MAX)), "what does not fit saturates");
    }

    static CERTIFICATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().der().to_vec()
    });

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at: usize, with: u8) {
            expires(&bytes);
            let mut certificate = CERTIFICATE.clone();
            let at = at % certificate.len();
            certificate[at] = with;
            expires(&certificate);
            expires(&certificate[..at]);
        }
    }
}
