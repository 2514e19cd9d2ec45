//! `[iperf3_server]`: the tests of others are taken and marked, and nobody keeps others out.

use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use super::{SECOND, children, rows, server};
use crate::bed::daemon::Home;
use crate::bed::net::{FAR, Net};
use crate::bed::{eventually, tool};

/// A client's test with these arguments. Between two clients the server starts anew, and refuses for a moment.
fn tested(net: &Net, arguments: &[&str]) {
    eventually(SECOND * 20, || {
        let client = || Command::new(tool("iperf3")).args(["-c", FAR.v4]).args(arguments).output();
        let output = net.host.enter(client).expect("the program is there");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
}

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
