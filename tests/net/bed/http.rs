//! The little HTTP that the databases' query interfaces need: one request a connection, over loopback.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A port that is free now. Whoever binds it next may lose a race, so starters try again with another.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// GET or POST; gives status and body.
pub(crate) fn request(method: &str, port: u16, path: &str, parameters: &[(&str, &str)], body: &str) -> Result<(u16, String), String> {
    let query: Vec<_> = parameters.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    let (query, length) = (query.join("&"), body.len());
    let sent = format!("{method} {path}?{query} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}");
    let answer = exchange(port, sent.as_bytes()).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

fn exchange(port: u16, bytes: &[u8]) -> std::io::Result<String> {
    let limit = Some(Duration::from_mins(1));
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stream.set_read_timeout(limit)?;
    stream.write_all(bytes)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn escaped(value: &str) -> String {
    value.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
        out
    })
}
