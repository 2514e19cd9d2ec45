//! Something to look at: a qosd that measures with every kind of probe, well and badly, and collects what two agents find.

use std::time::Duration;

use serde_json::json;

use crate::bed::bridge::{Bridge, HUB, address};
use crate::bed::daemon::{Home, Running};
use crate::bed::eventually;
use crate::bed::responder::Responder;
use crate::bed::rows::Exported;
use crate::driver::{Browser, Scripts};
use crate::scripted_server::{Reply, ScriptedServer};

/// Where the page is, in the hub.
pub(crate) const PAGE: &str = "http://127.0.0.1:9876";
/// A target whose name would do something if it were not text.
pub(crate) const HOSTILE: &str = "<img src=x onerror=document.title=1>";
/// What a server answers that has the same in mind.
const SAID: &str = "HTTP/1.1 500 <script>document.title=2</script>\r\n\r\n";
const KEY: &str = "the-key-of-this-demo";
/// Long enough for iperf3's first test, and for a round of the mesh.
const LIMIT: Duration = Duration::from_mins(1);
/// Who has said nothing since the collector began is given a minute and a half.
const ABSENT_WITHIN: Duration = Duration::from_secs(150);

/// A target of ping that is some way off, and loses a packet now and then: something for a smoke chart.
const FAR: &str = "10.78.0.1";
const ON_THE_WAY: &str = r#"
delays = ["18ms", "19ms", "18ms", "24ms", "20ms", "18ms", "31ms", "19ms", "22ms", "18ms", "20ms", "19ms", "47ms"]
except = [{ every = 83, acts = [] }, { at = [230, 231, 232, 234, 236], acts = [] }]
"#;

/// What the page shows. Everything ends with it.
pub(crate) struct Demo {
    bridge: Bridge,
    /// The hub's first.
    services: Vec<(Home, Running)>,
    _server: ScriptedServer,
    _responder: Responder,
}

impl Demo {
    /// Starts all of it, and waits until every kind has rows of which a chart can be made.
    pub(crate) fn start() -> Self {
        let bridge = Bridge::new(2);
        let server = bridge.hub.enter(|| ScriptedServer::start([], Reply::Raw(SAID.as_bytes().to_vec())));
        let rule = toml::from_str(ON_THE_WAY).expect("it is a rule");
        let responder = Responder::start(&bridge.hub, [(FAR.parse().expect("an address"), rule)].into());
        let hub = Home::named("rome-1", &config(&server.url()));
        let probe = |name: &str, site: usize| json!({ "name": name, "proto": 4, "address": address(site) });
        // The third is never there.
        let probes = [probe("milan", 1), probe("turin", 2), probe("bari", 9)];
        hub.file("probes.json", &json!({ "probes": probes }).to_string());
        hub.file("schedule.json", r#"{"ping":{"interval":"2s","count":3,"spacing":"200ms"}}"#);
        hub.file("api_key", KEY);
        let signed = rcgen::generate_simple_self_signed([HUB.to_owned()]).expect("a name like any other");
        hub.file("collector.pem", &signed.cert.pem());
        hub.file("collector.key", &signed.signing_key.serialize_pem());
        let mut services = vec![];
        let running = hub.start_in(&bridge.hub);
        services.push((hub, running));
        for (site, name) in [(1, "milan"), (2, "turin")] {
            let mesh =
                format!("[mesh]\ncollector = \"https://{HUB}:9878\"\nkey_file = \"mesh_key\"\nprotocol = \"v1\"\nca_file = \"ca.pem\"\n");
            let agent = Home::named(name, &mesh);
            agent.file("mesh_key", KEY);
            agent.file("ca.pem", &signed.cert.pem());
            let running = agent.start_in(bridge.site(site));
            services.push((agent, running));
        }
        let demo = Self { bridge, services, _server: server, _responder: responder };
        eventually(LIMIT, || demo.ripe());
        demo
    }

    /// As [`Demo::start`], until it is known, too, that one of the mesh is absent.
    pub(crate) fn start_with_absent() -> Self {
        let demo = Self::start();
        let known = |row: &Exported| row.text("result") == "peer_absent";
        eventually(ABSENT_WITHIN, || if demo.services[0].0.rows().iter().any(known) { Ok(()) } else { Err("nobody is absent".to_owned()) });
        demo
    }

    fn ripe(&self) -> Result<(), String> {
        let rows = self.services[0].0.rows();
        let of_kind = |kind: &str| rows.iter().filter(|row| row.tag("kind") == kind && row.text("result") == "ok").count();
        let counted = [of_kind("ping"), of_kind("http"), of_kind("iperf3"), rows.iter().filter(|row| row.measurement == "Ping").count()];
        if counted.iter().zip([20, 5, 1, 4]).all(|(count, least)| *count >= least) { Ok(()) } else { Err(format!("{counted:?} rows")) }
    }

    /// Looks at it with a browser of one's own.
    pub(crate) fn look<T: Send>(&self, scripts: Scripts, look: impl FnOnce(&Browser) -> T + Send) -> T {
        self.bridge.hub.enter(|| look(&Browser::start(scripts)))
    }
}

/// The page of a target.
pub(crate) fn of_target(kind: &str, probe: &str, target: &str) -> String {
    format!("{PAGE}/probe/{kind}/{probe}/{target}")
}

fn config(failing: &str) -> String {
    format!(
        r#"
[web]
listen = ["127.0.0.1:9876"]
[responder]
[iperf3_server]
[influxdb.away]
url = "http://127.0.0.1:1"
database = "qos"
[ping.core]
targets = ["127.0.0.1", "::1", {{ host = "10.72.0.1", name = "milan" }}, {{ host = "{FAR}", name = "oslo" }}, {{ host = "10.72.0.77", name = "nobody" }}, {{ host = "127.0.2.1", name = "{HOSTILE}" }}]
interval = "1s"
count = 10
spacing = "20ms"
timeout = "500ms"
[http.portal]
targets = ["http://127.0.0.1:9877/"]
download = "/testfile.bin"
upload = "/upload"
interval = "1s"
timeout = "900ms"
download_timeout = "900ms"
upload_timeout = "900ms"
[http.failing]
targets = [{{ host = "{failing}/", name = "failing" }}]
interval = "2s"
timeout = "900ms"
[iperf3.backbone]
targets = ["127.0.0.1"]
interval = "10s"
duration = "1s"
protocols = ["tcp"]
[collector]
listen = "{HUB}:9878"
probes = "probes.json"
schedule = "schedule.json"
api_key_file = "api_key"
tls_cert = "collector.pem"
tls_key = "collector.key"
"#
    )
}
