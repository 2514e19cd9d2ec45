//! `[http.NAME]`: what the config says of an HTTP probe, and the series that it makes.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::destination::Place;
use super::headers::Headers;
use crate::probe::schedule::Phase;
use crate::probe::target::{Target, tag_safe};
use crate::probe::{Cost, Naming, Planned};
use crate::resolve::Wanted;
use crate::settings::units::{self, show_bytes, show_duration};
use crate::settings::{KeyProblem, explain, out_of_range};

/// A run ends this long after all its time-outs, however slow the host is.
const MARGIN: Duration = Duration::from_secs(2);
/// What a connection, a TLS handshake and two heads cost, for the estimate.
const OVERHEAD_BYTES: f64 = 8192.0;
/// As above, in packets that are sent.
const OVERHEAD_PACKETS: f64 = 8.0;
/// Bytes in a full packet.
const PACKET_BYTES: f64 = 1448.0;
/// What a download is taken to be when its path does not say so with `bytes=`.
const LIKELY_DOWNLOAD: u64 = 1 << 20;

/// `[http.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    targets: Vec<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    download: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
    #[serde(with = "units::bytes")]
    upload_size: u64,
    #[serde(with = "units::duration")]
    interval: Duration,
    #[serde(with = "units::duration")]
    timeout: Duration,
    #[serde(with = "units::duration")]
    download_timeout: Duration,
    #[serde(with = "units::duration")]
    upload_timeout: Duration,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expect_status: Vec<u16>,
    #[serde(with = "units::bytes")]
    max_body: u64,
    redirects: u32,
    insecure: bool,
    family: FamilyChoice,
    reuse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers_file: Option<PathBuf>,
    phase: Phase,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            download: None,
            upload: None,
            upload_size: 100 << 10,
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(5),
            download_timeout: Duration::from_secs(10),
            upload_timeout: Duration::from_secs(15),
            expect_status: Vec::new(),
            max_body: 64 << 20,
            redirects: 0,
            insecure: false,
            family: FamilyChoice::Auto,
            reuse: false,
            headers_file: None,
            phase: Phase::Spread,
        }
    }
}

/// Which protocol a probe connects with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum FamilyChoice {
    /// That of the literal; for a name IPv4, and IPv6 if it has no such address.
    Auto,
    Ipv4,
    Ipv6,
}

/// A request of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where it goes.
    pub url: Url,
    /// How long it may take, answer and redirects included.
    pub timeout: Duration,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The "HTTP ping".
    pub get: Ask,
    /// The download.
    pub download: Option<Ask>,
    /// The upload.
    pub upload: Option<Ask>,
    /// How many bytes are uploaded.
    pub upload_size: u64,
    /// Which statuses are right; none = 200 to 299.
    pub expect_status: Vec<u16>,
    /// The most of an answer's body that is read.
    pub max_body: u64,
    /// How many redirects a request follows.
    pub redirects: u32,
    /// Whether any certificate is good.
    pub insecure: bool,
    /// Which addresses of a name are wanted.
    pub wanted: Wanted,
    /// Whether a connection may be used again.
    pub reuse: bool,
    /// Sent to the target and to nobody else.
    pub headers: Headers,
}

/// The series that a probe's table asks for.
pub fn plan(settings: &Settings, naming: &Naming) -> Result<Vec<Planned<Job>>, Vec<KeyProblem>> {
    let mut problems = check(settings);
    let headers = settings.headers_file.as_ref().map(|path| Headers::read(path)).transpose().unwrap_or_else(|error| {
        problems.push(KeyProblem::new("headers_file", explain(&error)));
        None
    });
    let headers = headers.unwrap_or_default();
    let mut planned = Vec::new();
    for (index, target) in settings.targets.iter().enumerate() {
        match series(settings, naming, target, &headers) {
            Ok(series) => planned.push(series),
            Err((key, message)) => {
                let key = if key.is_empty() { format!("targets[{index}]") } else { key.to_owned() };
                let problem = KeyProblem::new(key, message);
                // A download that no target takes is wrong once.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

fn check(settings: &Settings) -> Vec<KeyProblem> {
    let s = settings;
    let waits = Duration::from_millis(10)..=Duration::from_mins(5);
    let mut problems: Vec<KeyProblem> = [
        out_of_range("interval", &s.interval, &(Duration::from_secs(1)..=Duration::from_hours(24)), show_duration),
        out_of_range("timeout", &s.timeout, &waits, show_duration),
        out_of_range("download_timeout", &s.download_timeout, &waits, show_duration),
        out_of_range("upload_timeout", &s.upload_timeout, &waits, show_duration),
        out_of_range("upload_size", &s.upload_size, &(1..=1 << 30), show_bytes),
        out_of_range("max_body", &s.max_body, &(1..=1 << 40), show_bytes),
        out_of_range("redirects", &s.redirects, &(0..=10), u32::to_string),
    ]
    .into_iter()
    .flatten()
    .collect();
    if s.targets.is_empty() {
        problems.push(KeyProblem::new("targets", "is missing or empty, expected at least one URL"));
    }
    for (index, status) in s.expect_status.iter().enumerate() {
        problems.extend(out_of_range(&format!("expect_status[{index}]"), status, &(200..=599), u16::to_string));
    }
    problems
}

/// The series of a target, or the key at fault (nothing for the target itself) and what is wrong.
fn series(settings: &Settings, naming: &Naming, target: &Target, headers: &Headers) -> Result<Planned<Job>, (&'static str, String)> {
    let here = |message: String| ("", message);
    let place = Place::read(&target.host).map_err(here)?;
    tag_safe(&place.host).map_err(|problem| here(format!("the host {problem}")))?;
    target.check_tags().map_err(here)?;
    let (family, wanted) = family(settings.family, &place).map_err(here)?;
    let join = |key, path: &Option<String>, timeout| match path {
        Some(path) => place.join(path).map(|url| Some(Ask { url, timeout })).map_err(|message| (key, message)),
        None => Ok(None),
    };
    let job = Job {
        download: join("download", &settings.download, settings.download_timeout)?,
        upload: join("upload", &settings.upload, settings.upload_timeout)?,
        get: Ask { url: place.url, timeout: settings.timeout },
        upload_size: settings.upload_size,
        expect_status: settings.expect_status.clone(),
        max_body: settings.max_body,
        redirects: settings.redirects,
        insecure: settings.insecure,
        wanted,
        reuse: settings.reuse,
        headers: headers.clone(),
    };
    let series = naming.series(target.name.as_deref().unwrap_or(&place.host), family, &target.tags);
    Ok(Planned {
        schedule: settings.phase.schedule(settings.interval, &series),
        series,
        longest: job.longest(),
        cost: job.cost(settings.interval),
        job,
    })
}

/// The tag `family`, and which addresses are wanted.
fn family(choice: FamilyChoice, place: &Place) -> Result<(&'static str, Wanted), String> {
    let Some(address) = place.address() else {
        return Ok(match choice {
            FamilyChoice::Auto => ("auto", Wanted::Any),
            FamilyChoice::Ipv4 => ("ipv4", Wanted::V4),
            FamilyChoice::Ipv6 => ("ipv6", Wanted::V6),
        });
    };
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} cannot be connected to"));
    }
    let (word, wanted, other) = match address {
        std::net::IpAddr::V4(_) => ("ipv4", Wanted::V4, FamilyChoice::Ipv6),
        std::net::IpAddr::V6(_) => ("ipv6", Wanted::V6, FamilyChoice::Ipv4),
    };
    if choice == other { Err(format!("{address} is {word}, but the probe's `family` is the other")) } else { Ok((word, wanted)) }
}

impl Job {
    /// Its requests, in order.
    pub fn asks(&self) -> impl Iterator<Item = &Ask> {
        std::iter::once(&self.get).chain(&self.download).chain(&self.upload)
    }

    /// The longest that a run may take: all its time-outs, and a slow host.
    pub fn longest(&self) -> Duration {
        self.asks().map(|ask| ask.timeout).sum::<Duration>() + MARGIN
    }

    /// An estimate: what a server answers is known only afterwards.
    fn cost(&self, interval: Duration) -> Cost {
        let download = self.download.as_ref().map_or(0, |ask| likely_size(&ask.url).min(self.max_body));
        let upload = self.upload.as_ref().map_or(0, |_| self.upload_size);
        let (requests, body) = (self.asks().count() as f64, (download + upload) as f64);
        // An acknowledgement for every second packet that comes.
        let sent = requests * OVERHEAD_PACKETS + upload as f64 / PACKET_BYTES + download as f64 / PACKET_BYTES / 2.0;
        let headers = body / PACKET_BYTES * 1.5 * 52.0;
        let runs = 1.0 / interval.as_secs_f64();
        Cost { packets_per_second: sent * runs, bytes_per_day: (requests * OVERHEAD_BYTES + body + headers) * runs * 86_400.0 }
    }
}

/// What a download's path says with `bytes=`, as the responder understands it.
fn likely_size(url: &Url) -> u64 {
    let said = url.query_pairs().find(|(key, _)| key == "bytes").and_then(|(_, value)| value.parse().ok());
    said.unwrap_or(LIKELY_DOWNLOAD)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::probe::http::Http;
    use crate::probe::{AnyKind, Assignment, Member, Reading};

    fn read(toml: &str) -> Result<Reading, Vec<KeyProblem>> {
        let file = config::File::from_str(toml, config::FileFormat::Toml);
        Member::<Http>::NEW.read("rome-1", "portal", config::Source::collect(&file).unwrap().into())
    }

    fn assignments(toml: &str) -> Vec<Arc<Assignment>> {
        read(toml).unwrap_or_else(|problems| panic!("{problems:?}")).assignments
    }

    fn job(toml: &str) -> Arc<Job> {
        assignments(toml)[0].job::<Job>().unwrap()
    }

    fn problems(toml: &str) -> Vec<String> {
        let problems = read(toml).err().unwrap_or_default();
        problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let all = assignments("targets = ['http://192.0.2.1/']\ndownload = '/testfile.bin'\nupload = '/upload'");
        let job = all[0].job::<Job>().unwrap();
        let ask = |url: &str, seconds| Ask { url: url.parse().unwrap(), timeout: Duration::from_secs(seconds) };
        let expected = Job {
            get: ask("http://192.0.2.1/", 5),
            download: Some(ask("http://192.0.2.1/testfile.bin", 10)),
            upload: Some(ask("http://192.0.2.1/upload", 15)),
            upload_size: 102_400,
            expect_status: Vec::new(),
            max_body: 67_108_864,
            redirects: 0,
            insecure: false,
            wanted: Wanted::V4,
            reuse: false,
            headers: Headers::default(),
        };
        assert_eq!(*job, expected);
        assert_eq!((all[0].schedule.interval(), all[0].longest), (Duration::from_mins(1), Duration::from_secs(32)));
        let tags: Vec<_> = all[0].series.tags().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(tags, ["family=ipv4", "kind=http", "probe=portal", "source=rome-1", "target=192.0.2.1"]);
    }

    #[test]
    fn the_tag_target_is_the_host_unless_there_is_a_name() {
        let toml = "targets = ['https://Host.Example:8443/a?b', { host = 'http://[2001:db8::1]:80/', tags = { site = 'x' } }, \
                    { host = 'http://h/', name = 'edge' }]";
        let tags = |tag: &str| assignments(toml).iter().map(|one| one.series.tag(tag).unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(tags("target"), ["Host.Example", "2001:db8::1", "edge"]);
        assert_eq!(tags("family"), ["auto", "ipv6", "auto"]);
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_its_place() {
        let with = |more: &str| format!("targets = ['http://a.example/']\n{more}");
        let table = [
            ("targets = []".to_owned(), "targets: is missing or empty, expected at least one URL"),
            ("targets = ['a.example']".to_owned(), "targets[0]: expected a URL that begins with http:// or https://"),
            ("targets = ['http://0.0.0.0/']".to_owned(), "targets[0]: 0.0.0.0 cannot be connected to"),
            (
                "targets = ['http://a/', { host = 'http://b/', name = \"\\n\" }]".to_owned(),
                "targets[1]: name contains the control character \\n",
            ),
            ("targets = ['http://[::1]/']\nfamily = 'ipv4'".to_owned(), "targets[0]: ::1 is ipv6, but the probe's `family` is the other"),
            (
                with("download = 'http://b.example/'"),
                "download: leads to another server than the target; expected a path such as \"/file\"",
            ),
            (with("upload = '/a b'"), "upload: contains a control character, white space or a backslash"),
            (with("expect_status = [200, 99]"), "expect_status[1]: 99 is out of range, allowed is 200 to 599"),
            (with("redirects = 11"), "redirects: 11 is out of range, allowed is 0 to 10"),
            (with("timeout = '0s'"), "timeout: 0s is out of range, allowed is 10ms to 5m"),
            (with("interval = '25h'"), "interval: 1d1h is out of range, allowed is 1s to 1d"),
            (with("upload_size = '0B'"), "upload_size: 0B is out of range, allowed is 1B to 1GiB"),
            (with("family = 'both'"), "family: \"both\" is not known, allowed are auto, ipv4, ipv6"),
            (with("headers_file = '/dev/zero'"), "headers_file: secret file /dev/zero cannot be used: is a device, not a file"),
        ];
        for (toml, expected) in table {
            assert_eq!(problems(&toml), [expected], "{toml}");
        }
    }

    #[test]
    fn the_family_of_a_name_is_as_configured() {
        for (family, wanted) in [("auto", Wanted::Any), ("ipv4", Wanted::V4), ("ipv6", Wanted::V6)] {
            assert_eq!(job(&format!("targets = ['http://a.example/']\nfamily = '{family}'")).wanted, wanted);
        }
    }

    #[test]
    fn a_run_costs_what_it_downloads_and_uploads() {
        let day = |more: &str| assignments(&format!("targets = ['http://a/']\ninterval = '1h'\n{more}"))[0].cost.bytes_per_day / 24.0;
        assert!((day("") - OVERHEAD_BYTES).abs() < 1.0);
        let both = day("download = '/testfile.bin?bytes=1000000'\nupload = '/u'\nupload_size = '1MB'");
        assert!((2_000_000.0..2_200_000.0).contains(&both), "{both}");
        assert!(day("download = '/x'\nmax_body = '1KiB'") < 20_000.0, "no more than is read");
    }

    #[test]
    fn equal_settings_make_equal_assignments_and_others_do_not() {
        let one = |more: &str| assignments(&format!("targets = ['http://a.example/']\n{more}")).remove(0);
        assert_eq!(one(""), one("redirects = 0"));
        assert_ne!(one(""), one("redirects = 1"));
        assert_ne!(one(""), one("expect_status = [204]"));
    }
}
