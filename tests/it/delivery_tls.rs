//! Delivery over TLS: with a certificate that is not good nothing is sent, the status says what is wrong, and once it is good the
//! rows arrive.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::ServerConfig;

use crate::daemon::Home;
use crate::dead_letters::fill;
use crate::http_tls::{authority, certificate, named};
use crate::scripted_server::{Reply, ScriptedServer};

const ROWS: i64 = 10;
const AT_ONCE: Duration = Duration::ZERO;

fn serve(address: SocketAddr, config: &Arc<ServerConfig>, handshake_after: Duration) -> ScriptedServer {
    ScriptedServer::start_tls(address, Arc::clone(config), handshake_after, [], Reply::status(204))
}

/// (I15) Each in a service of its own, all at once.
#[test]
fn i15_without_a_good_certificate_nothing_is_sent_and_with_one_the_rows_arrive() {
    let (ours, other) = (authority(), named("Somebody else"));
    let good = certificate(&ours, "127.0.0.1", 2060, &[]);
    let mut roots = tempfile::NamedTempFile::new().unwrap();
    roots.write_all(ours.pem().as_bytes()).unwrap();
    let table = [
        ("expired", certificate(&ours, "127.0.0.1", 2020, &[]), AT_ONCE),
        ("not valid for", certificate(&ours, "other.example", 2060, &[]), AT_ONCE),
        ("UnknownIssuer", certificate(&other, "127.0.0.1", 2060, &[]), AT_ONCE),
        // The handshake never begins.
        ("no whole answer within", Arc::clone(&good), Duration::from_hours(1)),
    ];
    thread::scope(|scope| {
        for (words, bad, handshake_after) in &table {
            let (good, roots) = (&good, roots.path());
            scope.spawn(move || {
                let server = serve("127.0.0.1:0".parse().unwrap(), bad, *handshake_after);
                let address = server.address();
                let home = Home::new(&format!(
                    "[influxdb.main]\nurl = \"https://{address}\"\ndatabase = \"qos\"\nflush_interval = \"50ms\"\ntimeout = \"500ms\"\n"
                ));
                fill(&home, ROWS, ROWS + 1);
                let daemon = home.start_trusting(roots);
                let output = || daemon.status()["outputs"][0].clone();
                daemon.until(|| output()["last_error"].as_str().is_some_and(|error| error.contains(words)));
                assert!(server.requests().is_empty(), "{words}");
                assert_eq!((&output()["dead"], &output()["delivered"]), (&0.into(), &0.into()), "{words}");
                drop(server);
                let server = serve(address, good, AT_ONCE);
                daemon.until(|| output()["pending"] == 0);
                let lines: usize = server.requests().iter().map(|request| request.body.matches("m,kind=good").count()).sum();
                assert_eq!(lines, ROWS as usize, "{words}");
                daemon.stop();
            });
        }
    });
}
