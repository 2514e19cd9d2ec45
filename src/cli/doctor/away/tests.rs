//! What each answer of an output, a collector or the service comes to.

use super::super::check::State;
use super::*;
use crate::secret::Secret;

fn settings(api: Api, file: Option<&str>) -> Settings {
    let second = Duration::from_secs(1);
    let url = "http://127.0.0.1:8086".parse().unwrap();
    let secret_file = file.map(Into::into);
    Settings { url, api, secret_file, batch_size: 10, flush_interval: second, timeout: second, gzip: false, replay: None }
}

fn v2() -> Settings {
    let api = Api::V2 { org: "my org".to_owned(), bucket: "qos".to_owned(), token: Secret::new("s3cret").unwrap() };
    settings(api, Some("/etc/qosd/influx_token"))
}

fn v1(policy: Option<&str>, login: bool) -> Settings {
    let credentials = login.then(|| ("w".to_owned(), Secret::new("s3cret").unwrap()));
    settings(Api::V1 { database: "qos".to_owned(), retention_policy: policy.map(str::to_owned), credentials }, None)
}

fn fix(settings: &Settings, trial: fn(String) -> Trial) -> String {
    let check = output("main", settings, &Ok(trial("said".to_owned())));
    assert_eq!(check.state(), State::Fail);
    check.fix().to_owned()
}

#[test]
fn a_database_that_lets_an_empty_write_in_is_well() {
    assert_eq!(output("main", &v2(), &Ok(Trial::Taken)).state(), State::Ok);
    assert_eq!(output("main", &v2(), &Ok(Trial::Empty("400".to_owned()))).state(), State::Ok);
}

#[test]
fn each_refusal_has_its_own_way_out() {
    assert_eq!(
        fix(&v2(), Trial::Unauthorized),
        "put a token that may write to bucket \"qos\" of \"my org\" into /etc/qosd/influx_token, then: systemctl reload qosd"
    );
    assert_eq!(
        fix(&v1(None, false), Trial::Unauthorized),
        "the database wants a login: set influxdb.main.username and influxdb.main.password_file"
    );
    assert!(fix(&v1(None, true), Trial::Unauthorized).starts_with("set influxdb.main.password_file"));
    assert_eq!(fix(&v1(None, true), Trial::Forbidden), "influx -execute 'GRANT WRITE ON \"qos\" TO \"w\"'");
    assert!(fix(&v2(), Trial::Forbidden).starts_with("give the token write access"));
    assert!(fix(&v1(None, true), Trial::NotFound).starts_with("influx -execute 'CREATE DATABASE \"qos\"'"));
    assert!(fix(&v2(), Trial::NotFound).starts_with("influx bucket create --org \"my org\" --name \"qos\""));
    assert!(fix(&v1(Some("week"), true), Trial::NoPolicy).starts_with("influx -execute 'CREATE RETENTION POLICY \"week\" ON \"qos\""));
    assert!(fix(&v2(), Trial::NoWriteApi).starts_with("correct influxdb.main.url"));
    let expired = output("main", &v2(), &Err("invalid peer certificate: Expired".to_owned()));
    assert!(expired.fix().starts_with("apt-get install ca-certificates"), "{expired:?}");
    let silent = output("main", &v2(), &Err("connection refused".to_owned()));
    assert!(silent.state() == State::Fail && silent.fix().starts_with("start the database"), "{silent:?}");
}

#[test]
fn no_check_of_an_output_shows_its_secret() {
    for trial in [Trial::Unauthorized, Trial::Forbidden, Trial::NotFound, Trial::NoPolicy, Trial::NoWriteApi, Trial::Other] {
        for settings in [v2(), v1(Some("week"), true)] {
            assert!(!format!("{:?}", output("main", &settings, &Ok(trial("said".to_owned())))).contains("s3cret"));
        }
    }
}

fn report(version: &str, problem: Option<&str>, failing: Option<&str>, error: Option<&str>) -> Service {
    let text = serde_json::json!({
        "version": version, "agent": "a", "pid": 7, "uptime_s": 90, "config": { "file": "f", "problem": problem },
        "journal": { "failing": failing, "rows": 1 }, "outputs": [{ "name": "main", "last_error": error }],
    });
    Service::Answers(serde_json::from_value(text).unwrap())
}

#[test]
fn the_running_service_is_believed() {
    let state = |of: &Service| service(Path::new("/run/qosd/qosd.sock"), of, "1.0").state();
    assert_eq!(state(&report("1.0", None, None, None)), State::Ok);
    assert_eq!(state(&report("0.9", None, None, None)), State::Warn);
    assert_eq!(state(&report("1.0", Some("x"), None, None)), State::Warn);
    assert_eq!(state(&report("1.0", None, Some("disk full"), None)), State::Fail);
    assert_eq!(state(&report("1.0", None, None, Some("401"))), State::Warn);
    let Service::Answers(mut silent) = report("1.0", None, None, None) else { panic!("it answers") };
    silent.listeners = vec![Listener { actor: "web".into(), listen: "127.0.0.1:80".into(), error: Some("permission denied".into()) }];
    let check = service(Path::new("/run/qosd/qosd.sock"), &Service::Answers(silent), "1.0");
    assert!(check.state() == State::Warn && format!("{check:?}").contains("it cannot listen: web at 127.0.0.1:80: permission denied"));
    assert_eq!(
        [state(&Service::Away), state(&Service::Denied), state(&Service::Silent("x".to_owned()))],
        [State::Note, State::Warn, State::Warn]
    );
}

#[test]
fn where_it_cannot_listen_the_port_is_blamed_only_for_what_is_wrong_with_a_port() {
    let at = |listen: &str, error: &str| Listener { actor: "web".into(), listen: listen.into(), error: Some(error.into()) };
    let fix = |listeners: &[Listener]| unheard(listeners).unwrap().1;
    for error in ["Address already in use (os error 98)", "Permission denied (os error 13)", "iperf3: unable to start: address in use"] {
        let fix = fix(&[at("127.0.0.1:80", error)]);
        assert!(fix.starts_with("ss -ltnp") && !fix.contains("qosd status"), "{error}: {fix}");
    }
    for (listen, error) in [
        ("127.0.0.1:5201", "iperf3 is not installed"),
        ("127.0.0.1:9878", "/etc/qosd/key.pem cannot be read: Permission denied (os error 13)"),
        ("unix:/run/qosd/collector.sock", "Permission denied (os error 13)"),
    ] {
        assert!(fix(&[at(listen, error)]).starts_with("qosd status says more"), "{error}");
    }
    let both = fix(&[at("[::1]:80", "Permission denied"), at("127.0.0.1:5201", "it ended")]);
    assert!(both.starts_with("ss -ltnp") && both.contains("; qosd status says more"), "{both}");
    assert_eq!(unheard(&[Listener { error: None, ..at("[::1]:80", "") }]), None);
}

#[test]
fn what_listens_nowhere_hides_no_output_that_takes_nothing() {
    let Service::Answers(mut report) = report("1.0", None, None, Some("401")) else { panic!("it answers") };
    report.listeners = vec![Listener { actor: "web".into(), listen: "[::1]:80".into(), error: Some("Permission denied".into()) }];
    let check = service(Path::new("/run/qosd/qosd.sock"), &Service::Answers(report), "1.0");
    assert!(check.found().ends_with("it cannot listen: web at [::1]:80: Permission denied; failing outputs: main: 401"), "{check:?}");
    assert!(check.fix().starts_with("ss -ltnp") && check.fix().ends_with("it goes on by itself"), "{check:?}");
}

#[test]
fn what_the_service_lost_and_how_its_history_is_are_taken_from_its_word() {
    let text = serde_json::json!({
        "version": "1", "pid": 1, "uptime_s": 1, "config": {}, "journal": { "dropped_size": 12, "dropped_gone": 1, "damaged": 2 },
        "outputs": [{ "name": "a", "dead": 3 }, { "name": "b", "dead": 4 }],
        "history": { "bytes": 5, "series": 1, "buckets": 1, "rows": 1, "behind": 6, "failing": null },
    });
    let report: Report = serde_json::from_value(text).unwrap();
    assert_eq!(report.lost(), Lost { size: 12, gone: 1, damaged: 2, dead: 7, ..Lost::default() });
    assert_eq!(report.history().behind, 6);
}
