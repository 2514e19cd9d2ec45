//! The HTTP kind over TLS: good certificates, bad ones, and servers that stall the handshake.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use qosd::probe::{Finding, Outcome};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls;

use crate::http::{LITTLE, assert_adds_up, assert_took, float, integer, measure, ms, now, peak, result, timed};
use crate::scripted_server::{Reply, ScriptedServer};

/// An authority of our own.
pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    named("Authority under test")
}

pub(crate) fn named(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::new(vec![]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for a name or address that ends in this year.
pub(crate) fn certificate(authority: &CertifiedIssuer<'static, KeyPair>, name: &str, until: i32, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    chained(authority, vec![], name, until, alpn)
}

/// As [`certificate`], sent with what is said to lead to an authority.
fn chained(
    authority: &CertifiedIssuer<'static, KeyPair>,
    between: Vec<CertificateDer<'static>>,
    name: &str,
    until: i32,
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.not_before = date_time_ymd(2000, 1, 1);
    parameters.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert([vec![certificate.der().clone()], between].concat(), key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn tls(config: Arc<ServerConfig>, handshake_after: u64, reply: Reply) -> ScriptedServer {
    ScriptedServer::start_tls("127.0.0.1:0".parse().unwrap(), config, ms(handshake_after), [], reply)
}

fn url(server: &ScriptedServer) -> String {
    format!("https://{}/", server.address())
}

fn insecure(server: &ScriptedServer, more: &str) -> Finding {
    measure(&format!("targets = ['{}']\ninsecure = true\n{more}", url(server)))
}

/// A run of the program itself, which trusts this authority and no other.
fn verified(authority: &CertifiedIssuer<'static, KeyPair>, server: &ScriptedServer) -> serde_json::Value {
    let mut roots = tempfile::NamedTempFile::new().unwrap();
    roots.write_all(authority.pem().as_bytes()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qosd"));
    command.args(["http", &url(server), "--output", "json"]).env("SSL_CERT_FILE", roots.path()).env_remove("SSL_CERT_DIR");
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_handshake_is_a_phase_of_its_own() {
    let authority = authority();
    let config = certificate(&authority, "127.0.0.1", 2060, &[b"http/1.1"]);
    let run = || {
        let server = tls(Arc::clone(&config), 100, timed(100, 100));
        (insecure(&server, ""), server.pauses())
    };
    let runs: Vec<_> = std::iter::repeat_with(run).take(10).collect();
    assert_took(&runs, &["http_tls_ms", "http_first_byte_ms", "http_transfer_ms"]);
    for (run, _) in &runs {
        assert_eq!(result(run), (Outcome::Ok, ""));
        assert!(float(run, "http_connect_ms").unwrap() < 50.0, "connecting is not the handshake: {run:?}");
        assert_adds_up(run);
    }
}

#[test]
fn a_certificate_of_an_authority_that_the_system_trusts_is_good_and_its_days_are_counted() {
    let authority = authority();
    let row = verified(&authority, &tls(certificate(&authority, "127.0.0.1", 2060, &[]), 0, Reply::status(200)));
    assert_eq!(row["fields"]["result"], "ok", "{row}");
    assert!(row["fields"]["http_tls_days_left"].as_f64().unwrap() > 365.0, "{row}");
}

/// (H11)
#[test]
fn h11_a_bad_certificate_is_a_tls_error_that_says_what_is_wrong() {
    let (ours, other) = (authority(), named("Somebody else"));
    let table = [
        (certificate(&ours, "127.0.0.1", 2020, &[]), "expired", true),
        (certificate(&ours, "other.example", 2060, &[]), "not valid for", false),
        (certificate(&other, "127.0.0.1", 2060, &[]), "UnknownIssuer", false),
    ];
    for (config, words, over) in table {
        let row = verified(&ours, &tls(config, 0, Reply::status(200)));
        let fields = &row["fields"];
        assert_eq!((&fields["result"], &fields["http_status_code"]), (&"tls_error".into(), &(-1).into()), "{row}");
        assert!(fields["error"].as_str().unwrap().contains(words), "{row}");
        assert_eq!(fields["http_tls_days_left"].as_f64().unwrap() < 0.0, over, "also of a bad one: {row}");
    }
}

/// (H11)
#[test]
fn h11_whoever_breaks_off_the_handshake_makes_a_tls_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hanging_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let closed = measure(&format!("targets = ['https://{address}/']\ninsecure = true\ntimeout = '2s'"));
    hanging_up.join().unwrap();
    assert_eq!(closed.outcome, Outcome::TlsError, "{closed:?}");
    let authority = authority();
    let config = certificate(&authority, "127.0.0.1", 2060, &[b"gopher"]);
    let refused = insecure(&tls(config, 0, Reply::status(200)), "");
    assert_eq!(refused.outcome, Outcome::TlsError, "an alert: {refused:?}");
}

/// (H11)
#[test]
fn h11_a_handshake_that_stalls_ends_with_the_deadline() {
    let authority = authority();
    let server = tls(certificate(&authority, "127.0.0.1", 2060, &[]), 60_000, Reply::status(200));
    let finding = insecure(&server, "timeout = '300ms'");
    assert_eq!(result(&finding), (Outcome::Timeout, "get: not done within 300ms while in the TLS handshake"));
    assert_eq!(integer(&finding, "http_status_code"), Some(-1));
}

/// (H11)
#[test]
fn h11_a_chain_of_a_hundred_certificates_is_a_tls_error_at_once() {
    let root = authority();
    let (mut last, mut between) = (authority(), Vec::new());
    for n in 0..100 {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("Authority {n}"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = if n == 0 { &root } else { &last };
        let next = CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), issuer).unwrap();
        between.insert(0, next.der().clone());
        last = next;
    }
    let server = tls(chained(&last, between, "127.0.0.1", 2060, &[]), 0, Reply::status(200));
    let begun = now();
    let row = verified(&root, &server);
    assert!(begun.elapsed() < ms(3000), "{:?}", begun.elapsed());
    assert_eq!(row["fields"]["result"], "tls_error", "{row}");
}

#[test]
fn without_any_trusted_authority_plain_http_still_works_and_tls_says_why_not() {
    let server = ScriptedServer::start([], Reply::status(200));
    let empty = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qosd"));
    let urls = [server.url(), "https://127.0.0.1:1/".to_owned()];
    command.arg("http").args(&urls).args(["--output", "json"]).env("SSL_CERT_FILE", empty.path()).env_remove("SSL_CERT_DIR");
    let output = command.output().unwrap();
    let rows: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows[0]["fields"]["result"], "ok", "{rows:?}");
    assert_eq!(rows[1]["fields"]["result"], "local_error", "{rows:?}");
    assert!(rows[1]["fields"]["error"].as_str().unwrap().contains("the system's certificates cannot be used"), "{rows:?}");
}

/// A server that speaks HTTP/2: so long to the head, so long to the rest.
fn http2(config: Arc<ServerConfig>, head: Duration, rest: Duration) -> (std::net::SocketAddr, std::thread::JoinHandle<Vec<Duration>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.version(), reqwest::Version::HTTP_2);
        let answer = async move {
            let begun = tokio::time::Instant::now();
            tokio::time::sleep(head).await;
            let to_head = begun.elapsed();
            let mut body = respond.send_response(h2_response(), false).unwrap();
            tokio::time::sleep(rest).await;
            let rested = begun.elapsed().saturating_sub(to_head);
            body.send_data(bytes::Bytes::from_static(b"hello"), true).unwrap();
            vec![to_head, rested]
        };
        // Until the client has gone; an error is its way to go.
        let server = async { while let Some(Ok(_)) = connection.accept().await {} };
        tokio::join!(answer, server).0
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    (address, std::thread::spawn(move || runtime.block_on(serve)))
}

/// A frame of HTTP/2, RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A server that speaks HTTP/2 and answers the first request with this once, then with that again and again.
fn http2_flood(config: Arc<ServerConfig>, once: Vec<u8>, again: Vec<u8>) -> std::net::SocketAddr {
    const HEADERS: u8 = 1;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || -> std::io::Result<()> {
        let (tcp, _) = listener.accept()?;
        let mut line = rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), tcp);
        line.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()])?;
        line.write_all(&frame(4, 0, 0, &[]))?;
        let mut head = [0; 9];
        while head[3] != HEADERS {
            line.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            line.read_exact(&mut vec![0; length as usize])?;
        }
        line.write_all(&once)?;
        loop {
            line.write_all(&again)?;
        }
    };
    // It ends when the client has gone, which is an error.
    std::thread::spawn(serve);
    address
}

/// (H10) What can be told at once to be no honest answer is; the rest ends with the deadline.
#[test]
fn h10_floods_of_frames_end_in_time_and_cost_little_memory() {
    const END_HEADERS: u8 = 4;
    let authority = authority();
    let config = certificate(&authority, "127.0.0.1", 2060, &[b"h2"]);
    let status_200 = [0x88];
    // A header that is not to be remembered, of 16 000 bytes.
    let long = [&[0x00, 1, b'x', 0x7f, 0x81, 0x7c][..], &[b'y'; 16_000]].concat();
    let head = || frame(1, END_HEADERS, 1, &status_200);
    let table = [
        ("continuation", frame(1, 0, 1, &status_200), frame(9, 0, 1, &long), Outcome::ToolError),
        ("empty continuation", frame(1, 0, 1, &status_200), frame(9, 0, 1, &[]).repeat(100), Outcome::ToolError),
        ("empty data", head(), frame(0, 0, 1, &[]).repeat(100), Outcome::ToolError),
        ("padding", head(), frame(0, 8, 1, &[&[255][..], &[0; 255]].concat()).repeat(100), Outcome::ToolError),
        ("reset", frame(3, 0, 1, &[0; 4]), frame(3, 0, 1, &[0; 4]).repeat(100), Outcome::ToolError),
        ("ping", vec![], frame(6, 0, 0, &[0; 8]).repeat(100), Outcome::Timeout),
        ("settings", vec![], frame(4, 0, 0, &[0, 4, 0, 0, 0, 9]).repeat(100), Outcome::Timeout),
        ("interim", vec![], frame(1, END_HEADERS, 1, &[0x48, 3, b'1', b'0', b'3']).repeat(100), Outcome::Timeout),
        ("promise", vec![], frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), Outcome::ToolError),
    ];
    let quiet = tls(Arc::clone(&config), 0, Reply::Stall);
    let least = peak(&[&url(&quiet), "-k", "-W", "300ms"]);
    for (name, once, again, expected) in table {
        let flood = || format!("https://{}/", http2_flood(Arc::clone(&config), once.clone(), again.clone()));
        let begun = now();
        let finding = measure(&format!("targets = ['{}']\ninsecure = true\ntimeout = '300ms'", flood()));
        let took = begun.elapsed();
        assert!(took < ms(1000), "{name}: {took:?}");
        assert_eq!(finding.outcome, expected, "{name}: {finding:?}");
        let most = peak(&[&flood(), "-k", "-W", "300ms"]);
        assert!(most <= least + LITTLE, "{name}: {most} bytes, {least} for silence");
    }
}

/// 200 without headers.
fn h2_response() -> http::Response<()> {
    http::Response::new(())
}

#[test]
fn http_2_has_the_same_phases() {
    let authority = authority();
    let config = certificate(&authority, "127.0.0.1", 2060, &[b"h2", b"http/1.1"]);
    let run = || {
        let (address, server) = http2(Arc::clone(&config), ms(100), ms(100));
        let finding = measure(&format!("targets = ['https://{address}/']\ninsecure = true"));
        (finding, server.join().unwrap())
    };
    let runs: Vec<_> = std::iter::repeat_with(run).take(10).collect();
    assert_took(&runs, &["http_first_byte_ms", "http_transfer_ms"]);
    for (run, _) in &runs {
        assert_eq!(result(run), (Outcome::Ok, ""));
        assert!(float(run, "http_tls_ms").is_some() && float(run, "http_connect_ms").is_some());
        assert_adds_up(run);
    }
}
