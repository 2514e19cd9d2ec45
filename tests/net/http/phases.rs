//! Every phase of a request is as long as somebody on the way took for it: the name server, the path, the server's TLS, the
//! server's head and its body.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::{self, ServerConfig};

use super::{LIMIT, RESOLV_CONF, rows};
use crate::bed::daemon::Home;
use crate::bed::dns::{Dns, Says};
use crate::bed::net::{FAR, Net};
use crate::bed::relay::Relay;
use crate::bed::rows::Exported;
use crate::bed::{eventually, short_or_long, told};
use crate::scripted_server::{Reply, ScriptedServer};

const PHASES: [&str; 5] = ["http_dns_ms", "http_connect_ms", "http_tls_ms", "http_first_byte_ms", "http_transfer_ms"];

/// TLS with a certificate that nobody signed.
pub(crate) fn self_signed(name: &str) -> Arc<ServerConfig> {
    let signed = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate can be made");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("ring has them");
    let key = signed.signing_key.serialize_der().try_into().expect("it was just made");
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).expect("they belong together"))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// By how much of what is allowed, 2 ms or 5 %, a phase differs from what it really took.
fn off(row: &Exported, phase: &str, really: Duration) -> f64 {
    let took = row.float(phase).unwrap_or_else(|| panic!("no {phase}: {row:?}"));
    let expected = really.as_secs_f64() * 1e3;
    (took - expected).abs() / f64::max(2.0, expected * 0.05)
}

#[test]
fn every_phase_is_as_long_as_it_really_took() {
    let net = Net::new();
    let dns = Dns::start(&net.host);
    // Good for no time at all: every run asks.
    dns.say("a.test", Says::Addresses(vec![FAR.v4.parse::<Ipv4Addr>().expect("an address")], 0, ms(100)));
    let relay = Relay::start(&net, ms(80));
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".to_vec();
    let reply = Reply::Pieces(vec![(ms(100), head), (ms(100), b"world".to_vec())]);
    let listen = "0.0.0.0:0".parse().expect("an address");
    let server = net.far.enter(|| ScriptedServer::start_tls(listen, self_signed("a.test"), ms(100), [], reply));
    let url = format!("https://a.test:{}/", server.address().port());
    let config = format!("[http.a]\ntargets = [\"{url}\"]\ninterval = \"1s\"\ntimeout = \"900ms\"\ninsecure = true\n");
    let home = Home::new(&config).resolving_by(RESOLV_CONF);
    let running = home.start_in(&net.host);
    let count = short_or_long(11, 121);
    let rows = eventually(LIMIT * 10, || Some(rows(&home, "a")).filter(|rows| rows.len() >= count).ok_or_else(|| "few rows".to_owned()));
    running.stop();
    let (of_dns, of_path, of_server) = (dns.pauses(), relay.pauses(), server.pauses());
    let mut all: [Vec<f64>; 5] = Default::default();
    for (n, row) in rows.iter().take(count).enumerate() {
        assert_eq!(row.text("result"), "ok", "{row:?}");
        let really = [of_dns[n], of_path[n], of_server[3 * n], of_server[3 * n + 1], of_server[3 * n + 2]];
        for ((phase, really), offs) in PHASES.into_iter().zip(really).zip(&mut all) {
            offs.push(off(row, phase, really));
        }
        let sum: f64 = PHASES.iter().filter_map(|phase| row.float(phase)).sum();
        assert!((sum - row.float("http_ping_ms").expect("it was answered")).abs() < 0.001, "{row:?}");
    }
    for (phase, offs) in PHASES.into_iter().zip(&mut all) {
        offs.sort_by(f64::total_cmp);
        told(&format!("{phase} differs by {offs:.2?} of what it may"));
        // One of the better ones in the short version, as other tests keep the machine busy. In the long one every single run of a
        // release build; one that is not optimised needs milliseconds to look a name up, so of that the middle.
        let unoptimised = cfg!(debug_assertions);
        let nth = short_or_long(offs.len() / 4, if unoptimised { offs.len() / 2 } else { offs.len() - 1 });
        assert!(offs[nth] <= 1.0, "{phase} is off by so many times what it may: {offs:?}");
    }
}
