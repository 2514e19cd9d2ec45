//! Where the collector listens: TCP, TLS, a socket in the file system; and what a reload does. M numbers are those of the
//! list of faults.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use actix::Actor;
use qosd::clock::Clock;
use qosd::listeners::Listeners;
use qosd::mesh::collector::server::{Bound, ListenError};
use qosd::mesh::collector::settings::Listen;
use qosd::mesh::collector::{Collector, CollectorParts, Settings};
use qosd::web::socket::SocketError;
use tokio::sync::watch;

use crate::collector::{Answer, KEY, read_all, request, settings, surface};

async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    patience.await.unwrap_or_else(|_| panic!("never {what}"));
}

fn list() -> Vec<u8> {
    request("GET", "/api/v1/conf/probes", &[("x-api-key", KEY)], b"")
}

/// How many probes are served there; none if nobody answers.
async fn probes(connect: impl FnOnce() -> std::io::Result<Box<dyn ReadWrite>> + Send + 'static) -> Option<usize> {
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = connect().ok()?;
        stream.write_all(&list()).ok()?;
        let answer = read_all(&mut stream);
        answer.starts_with(b"HTTP/1.1 200 ").then(|| Answer::read(&answer).json()["probes"].as_array().unwrap().len())
    });
    asked.await.unwrap()
}

trait ReadWrite: std::io::Read + Write {}
impl<T: std::io::Read + Write> ReadWrite for T {}

async fn at(address: SocketAddr) -> Option<usize> {
    probes(move || Ok(Box::new(TcpStream::connect(address)?))).await
}

async fn at_socket(path: &Path) -> Option<usize> {
    let path = path.to_owned();
    probes(move || Ok(Box::new(UnixStream::connect(path)?))).await
}

/// A free port, and something that holds it.
fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

struct Running {
    dir: tempfile::TempDir,
    change: watch::Sender<Option<Settings>>,
    actor: actix::Addr<Collector>,
}

/// The actor, without a section yet.
fn running() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let (change, watched) = watch::channel(None);
    let actor = Collector::new(CollectorParts {
        settings: watched,
        surface: surface(dir.path()),
        listeners: Listeners::default(),
        clock: Clock::system(),
    })
    .start();
    Running { dir, change, actor }
}

impl Running {
    fn configure(&self, more: &str) {
        self.change.send_replace(Some(settings(self.dir.path(), more)));
    }
}

#[test]
fn it_follows_the_config_and_waits_for_a_place_that_is_taken() {
    actix_rt::System::new().block_on(async {
        let running = running();
        let (first, second) = (taken(), taken());
        drop(second.0);
        running.configure(&format!("listen = '{}'", second.1));
        eventually("served", async || at(second.1).await == Some(3)).await;
        running.configure(&format!("listen = '{}'", first.1));
        eventually("gone from where it was", async || at(second.1).await.is_none()).await;
        assert!(running.actor.connected(), "it waits");
        drop(first.0);
        eventually("served once the port is free", async || at(first.1).await == Some(3)).await;
        let path = running.dir.path().join("collector.sock");
        running.configure(&format!("listen = 'unix:{}'", path.display()));
        eventually("served on a socket", async || at_socket(&path).await == Some(3)).await;
        assert!(at(first.1).await.is_none());
        running.change.send_replace(None);
        eventually("off", async || !path.exists()).await;
        assert!(running.actor.connected());
    });
}

#[test]
fn a_reload_with_the_same_place_swaps_list_and_key_beneath_the_connections() {
    actix_rt::System::new().block_on(async {
        let running = running();
        let (held, address) = taken();
        drop(held);
        let listen = format!("listen = '{address}'");
        running.configure(&listen);
        eventually("served", async || at(address).await == Some(3)).await;
        let mut kept = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut one_probe = settings(running.dir.path(), &listen);
        one_probe.probes.probes.truncate(1);
        running.change.send_replace(Some(one_probe));
        eventually("swapped", async || at(address).await == Some(1)).await;
        tokio::io::AsyncWriteExt::write_all(&mut kept, &list()).await.unwrap();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut kept, &mut answer).await.unwrap();
        assert_eq!(Answer::read(&answer).json()["probes"].as_array().unwrap().len(), 1);
        std::fs::write(running.dir.path().join("new_key"), "another-key").unwrap();
        std::fs::set_permissions(running.dir.path().join("new_key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut new_key = settings(running.dir.path(), &listen);
        new_key.api_key = qosd::secret::Secret::new("another-key").unwrap();
        running.change.send_replace(Some(new_key));
        eventually("another key", async || {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, &list()).await.unwrap();
            let mut answer = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
            Answer::read(&answer).status == 403
        })
        .await;
    });
}

#[test]
fn it_speaks_tls_with_its_own_certificate() {
    qosd::tls::install_provider();
    let signed = rcgen::generate_simple_self_signed(["collector.test".to_owned()]).unwrap();
    actix_rt::System::new().block_on(async {
        let running = running();
        for (name, text) in [("cert.pem", signed.cert.pem()), ("key.pem", signed.signing_key.serialize_pem())] {
            let path = running.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (held, address) = taken();
        drop(held);
        running.configure(&format!("listen = '{address}'\ntls_cert = 'cert.pem'\ntls_key = 'key.pem'"));
        let root = reqwest::Certificate::from_der(signed.cert.der()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().resolve("collector.test", address).build().unwrap();
        let ask = || client.get(format!("https://collector.test:{}/api/v1/conf/probes", address.port())).header("x-api-key", KEY).send();
        eventually("served", async || ask().await.is_ok_and(|answer| answer.status() == 200)).await;
        assert_eq!(ask().await.unwrap().version(), http::Version::HTTP_11);
        assert!(at(address).await.is_none(), "not without TLS");
    });
}

/// M15.
#[test]
fn m15_the_socket_is_for_owner_and_group_and_takes_the_place_of_a_dead_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("collector.sock");
    let bind = |path: &Path| Bound::new(&Listen::Unix(path.to_owned()));
    // Left by a dead process.
    drop(UnixListener::bind(&path).unwrap());
    let bound = bind(&path).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o660);
    assert!(matches!(bind(&path), Err(ListenError::Socket(SocketError::InUse(_)))), "somebody listens");
    drop(bound);
    assert!(!path.exists(), "it goes with the server");
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    std::fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
    for path in [&file, &link, &dangling, &dir.path().to_owned()] {
        assert!(matches!(bind(path), Err(ListenError::Socket(SocketError::InTheWay(_)))), "{}", path.display());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
}
