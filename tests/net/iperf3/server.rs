//! `[iperf3_server]`: the tests of others are taken and marked, and nobody keeps others out.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use super::{SECOND, children, rows, server};
use crate::bed::daemon::Home;
use crate::bed::net::{FAR, Net};
use crate::bed::{eventually, short_or_long, tool};

/// A client's test with these arguments. Between two clients the server starts anew, and refuses for a moment.
fn tested(net: &Net, arguments: &[&str]) {
    eventually(SECOND * 20, || {
        let client = || Command::new(tool("iperf3")).args(["-c", FAR.v4]).args(arguments).output();
        let output = net.host.enter(client).expect("the program is there");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
}

/// (F10)
#[test]
fn the_server_for_others_takes_their_tests_and_marks_what_they_overlap() {
    let net = Net::new();
    let ping = format!("[ping.beside]\ntargets = [\"{}\"]\ninterval = \"1s\"\ncount = 2\nspacing = \"50ms\"\n", FAR.v4);
    let home = Home::new(&format!("{ping}[iperf3_server]\nlisten = \"{}\"\n", FAR.v4));
    let mut running = home.start_in(&net.far);
    running.said("iperf3 server listens");
    for arguments in [&["-t", "3"][..], &["-t", "1", "-R"], &["-t", "1", "-u"]] {
        tested(&net, arguments);
    }
    eventually(SECOND * 5, || {
        let marked = rows(&home, "beside").into_iter().filter(|row| row.text("load_test") == "iperf3_server").count();
        if marked >= 2 { Ok(()) } else { Err(format!("{marked} pings are marked")) }
    });
    eventually(SECOND * 5, || {
        rows(&home, "beside").last().filter(|row| row.integer("loaded") == Some(0)).map(|_| ()).ok_or_else(|| "still loaded".to_owned())
    });
    // Without its section it is gone.
    home.configure(&ping);
    running.reload();
    eventually(SECOND * 5, || if children(running.pid()).is_empty() { Ok(()) } else { Err("it is still there".to_owned()) });
    running.stop();
}

/// (F9)
#[test]
fn whoever_connects_and_says_nothing_is_thrown_out_of_the_server() {
    let net = Net::new();
    let home = Home::new(&format!("[iperf3_server]\nlisten = \"{}\"\n", FAR.v4));
    let running = home.start_in(&net.far);
    running.said("iperf3 server listens");
    let stranger = net.host.enter(|| TcpStream::connect((FAR.v4, 5201)).expect("it listens"));
    let start = Instant::now();
    tested(&net, &["-t", "1", "--connect-timeout", "500"]);
    assert!(start.elapsed() > SECOND * 4, "it was there for a while");
    drop(stranger);
    running.stop();
}

/// (F9)
#[test]
fn a_port_in_use_is_told_once_and_tried_again() {
    let net = Net::new();
    let mut other = server(&net.far);
    let home = Home::new(&format!("[iperf3_server]\nlisten = \"{}\"\n", FAR.v4));
    let running = home.start_in(&net.far);
    let line = running.said("iperf3 server does not work");
    assert!(line.contains("Address already in use"), "{line}");
    other.kill();
    tested(&net, &["-t", "1", "--connect-timeout", "500"]);
    assert_eq!(running.times_said("iperf3 server does not work"), 1);
    running.stop();
}

/// (F9) They scan it, send rubbish, begin and go, by the hundred; and find it nowhere but where it was told to be.
#[test]
fn strangers_cost_no_more_than_a_process_at_a_time_and_the_next_test_is_taken() {
    let net = Net::new();
    let home = Home::new(&format!("[iperf3_server]\nlisten = \"{}\"\n", FAR.v4));
    let running = home.start_in(&net.far);
    running.said("iperf3 server listens");
    let elsewhere = net.host.enter(|| TcpStream::connect((FAR.v6, 5201))).map(drop);
    assert_eq!(elsewhere.map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused), "on the configured address alone");
    // A cookie and then the length of parameters that never come; rubbish; nothing; more than there is room for.
    let abuse = [[&[b'a'; 37][..], &[0xff; 4]].concat(), b"GET / HTTP/1.1\r\n\r\n".to_vec(), Vec::new(), vec![0xff; 1 << 20]];
    let (begin, mut connected) = (Instant::now(), 0);
    while begin.elapsed() < SECOND * short_or_long(5, 30) {
        for bytes in &abuse {
            let Ok(mut stranger) = net.host.enter(|| TcpStream::connect((FAR.v4, 5201))) else { continue };
            connected += 1;
            // It may have been thrown out already.
            let _ = stranger.write_all(bytes);
        }
        let children = children(running.pid());
        assert!(children.len() <= 1, "{children:?}");
    }
    assert!(connected > 10, "{connected}");
    assert!(running.times_said("iperf3 server") < 20, "{}", running.log());
    tested(&net, &["-t", "1", "--connect-timeout", "500"]);
    running.stop();
}
