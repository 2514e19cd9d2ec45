//! What is done with the echo requests to an address. Pure: rule, number of the packet and its bytes in, replies out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Deserialize;

use super::packet::{self, ECHO_HEADER, Echo, message, sealed};

/// Bytes of the token at the beginning of a payload: who sends them back is believed to have seen the request.
const TOKEN: usize = 8;

/// What is done with the requests to one address: each gets the right reply after a delay, but for the exceptions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rule {
    /// How long the replies take, in turn; none is at once.
    pub(crate) delays: Vec<Span>,
    /// The first that applies counts.
    pub(crate) except: Vec<Exception>,
}

/// Other acts than the right reply for some packets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Exception {
    /// For the last of every so many.
    every: Option<u64>,
    /// For these, from 0 on. With neither, for all.
    at: Vec<u64>,
    /// What is done, in this order; nothing is silence.
    acts: Vec<Act>,
}

/// One thing that is done for a request.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum Act {
    /// The right reply.
    Genuine,
    /// The right reply so much later.
    Held(Span),
    /// The right reply in a packet with IP options.
    Options,
    /// The right reply with its last byte another, and a checksum that fits.
    DamagedByte,
    /// A reply that says it is as long, cut behind so many bytes of its ICMP message, with checksums and lengths that fit.
    CutTo(usize),
    /// The right reply with more behind it.
    Longer,
    /// The right reply with a wrong ICMP checksum.
    BadChecksum,
    /// An IP header that says to be longer or shorter by so many bytes than the packet.
    TotalLength(i16),
    /// An IPv4 header that says to be of so many words.
    HeaderLength(u8),
    /// The right reply from another address.
    OtherSource,
    /// The right reply with another identifier, whose upper bits are right.
    OtherIdent,
    /// The right reply with a sequence number that was not sent.
    OtherSequence,
    /// So many replies with right source and numbers whose payloads are guesses.
    Guesses(u64),
    /// The right reply whose payload begins 8 bytes later.
    Shifted,
    /// The right reply with a time of day in front of its payload, as other probers have theirs.
    Dated,
    /// An error about the request.
    Error(Icmp),
    /// Another ICMP message, with the request's numbers where an echo has them.
    Other(u8),
}

/// An ICMP error.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Icmp {
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
    /// Who says so; the target itself if nobody is named.
    from: Option<IpAddr>,
    #[serde(default)]
    quote: Quote,
}

/// What an error quotes.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Quote {
    /// The request.
    #[default]
    Whole,
    /// Its IP header and 8 bytes behind it, as of old.
    Least,
    /// Its IP header and 4 bytes behind it, which do not hold its numbers.
    Truncated,
    /// A request to another address.
    OtherTarget,
    /// A request with another sequence number.
    OtherSequence,
    /// A packet of UDP.
    OtherProtocol,
}

/// What a packet means to a prober that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Means {
    /// An answer.
    Genuine,
    /// An answer that was damaged on the way.
    Damaged,
    /// Word that the request cannot be delivered.
    Error,
    /// Nothing.
    Noise,
}

/// A packet to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// How long after the request.
    pub(crate) after: Duration,
    /// What it is to be taken for.
    pub(crate) means: Means,
    /// Its bytes, from the IP header on.
    pub(crate) bytes: Vec<u8>,
}

/// A duration as the config writes it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        humantime::parse_duration(&text).map(Self)
    }
}

impl Exception {
    fn applies(&self, nth: u64) -> bool {
        let every = self.every.is_some_and(|every| nth % every == every - 1);
        every || self.at.contains(&nth) || (self.every.is_none() && self.at.is_empty())
    }
}

/// What is done for the `nth` request to an address, counted from 0.
pub(crate) fn answer(rule: &Rule, nth: u64, echo: &Echo) -> Vec<Reply> {
    let delay = rule.delays.get((nth % rule.delays.len().max(1) as u64) as usize).map_or(Duration::ZERO, |delay| delay.0);
    let acts = rule.except.iter().find(|exception| exception.applies(nth)).map_or(&[Act::Genuine][..], |exception| &exception.acts);
    acts.iter().flat_map(|act| perform(*act, nth, delay, echo)).collect()
}

fn perform(act: Act, nth: u64, delay: Duration, echo: &Echo) -> Vec<Reply> {
    let Echo { ident, sequence, .. } = *echo;
    let reply = |ident, sequence, payload: &[u8]| from_target(echo, echo.reply(ident, sequence, payload));
    let right = || reply(ident, sequence, echo.payload());
    let one = |means, bytes| vec![Reply { after: delay, means, bytes }];
    match act {
        Act::Genuine => one(Means::Genuine, right()),
        Act::Held(by) => vec![Reply { after: delay + by.0, means: Means::Genuine, bytes: right() }],
        Act::Options => one(Means::Genuine, packet::with_options(right())),
        Act::DamagedByte => one(Means::Damaged, reply(ident, sequence, &with_last_byte_flipped(echo.payload()))),
        Act::CutTo(bytes) => {
            let mut cut = echo.reply(ident, sequence, echo.payload());
            cut.truncate(bytes);
            one(if bytes >= ECHO_HEADER + TOKEN { Means::Damaged } else { Means::Noise }, from_target(echo, cut))
        }
        Act::Longer => one(Means::Damaged, reply(ident, sequence, &[echo.payload(), &[0; 8]].concat())),
        Act::BadChecksum => {
            let mut bytes = right();
            let at = bytes.len() - echo.payload().len() - ECHO_HEADER + 2;
            bytes[at] ^= 0x55;
            one(Means::Noise, bytes)
        }
        Act::TotalLength(more) => one(Means::Noise, packet::with_total_length(right(), more)),
        Act::HeaderLength(words) => one(Means::Noise, packet::with_header_length(right(), words)),
        Act::OtherSource => one(Means::Noise, sealed(other(echo.target), echo.source, echo.reply(ident, sequence, echo.payload()))),
        Act::OtherIdent => one(Means::Noise, reply(ident ^ 1, sequence, echo.payload())),
        Act::OtherSequence => one(Means::Noise, reply(ident, sequence ^ 0x8000, echo.payload())),
        Act::Guesses(count) => (0..count)
            .map(|guess| Reply { after: delay, means: Means::Noise, bytes: reply(ident, sequence, &guessed(echo.payload(), nth, guess)) })
            .collect(),
        Act::Shifted => one(Means::Noise, reply(ident, sequence, &shifted(echo.payload()))),
        Act::Dated => one(Means::Noise, reply(ident, sequence, &dated(echo.payload()))),
        Act::Error(icmp) => {
            let (bytes, means) = error(icmp, echo);
            one(means, bytes)
        }
        Act::Other(kind) => {
            let [[a, b], [c, d]] = [ident.to_be_bytes(), sequence.to_be_bytes()];
            one(Means::Noise, from_target(echo, message(kind, 0, [a, b, c, d], echo.payload())))
        }
    }
}

fn from_target(echo: &Echo, message: Vec<u8>) -> Vec<u8> {
    sealed(echo.target, echo.source, message)
}

/// A neighbour of an address.
fn other(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() ^ 0x80).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() ^ 0x8000).into(),
    }
}

fn with_last_byte_flipped(payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let Some(last) = payload.last_mut() {
        *last ^= 1;
    }
    payload
}

/// A payload whose token is wrong: by one bit at first, then by what comes.
fn guessed(payload: &[u8], nth: u64, guess: u64) -> Vec<u8> {
    let wrong = if guess < 64 { 1 << guess } else { (nth << 20 | guess).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
    let wrong = wrong.to_be_bytes();
    payload.iter().enumerate().map(|(at, byte)| byte ^ wrong.get(at).unwrap_or(&0)).collect()
}

fn shifted(payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let by = TOKEN.min(payload.len());
    payload.rotate_left(by);
    payload
}

/// 2001-09-09 01:46:40, as a `timeval` of 64 bits.
fn dated(payload: &[u8]) -> Vec<u8> {
    let time = [1_000_000_000_i64.to_ne_bytes(), [0; 8]].concat();
    time.into_iter().chain(payload.iter().skip(16).copied()).collect()
}

fn error(icmp: Icmp, echo: &Echo) -> (Vec<u8>, Means) {
    let elsewhere = |source, target, sequence| {
        let mut asked = echo.reply(echo.ident, sequence, echo.payload());
        asked[0] = if echo.target.is_ipv4() { 8 } else { 128 };
        sealed(source, target, asked)
    };
    let (quote, means) = match icmp.quote {
        Quote::Whole => (echo.quote(usize::MAX / 2).to_vec(), Means::Error),
        Quote::Least => (echo.quote(8).to_vec(), Means::Error),
        Quote::Truncated => (echo.quote(4).to_vec(), Means::Noise),
        Quote::OtherTarget => (elsewhere(echo.source, other(echo.target), echo.sequence), Means::Noise),
        Quote::OtherSequence => (elsewhere(echo.source, echo.target, echo.sequence ^ 0x8000), Means::Noise),
        Quote::OtherProtocol => {
            let mut quote = echo.quote(8).to_vec();
            quote[if echo.target.is_ipv4() { 9 } else { 6 }] = 17;
            (quote, Means::Noise)
        }
    };
    // A redirect and a source quench quote as well, and say nothing of delivery.
    let is_error = if echo.target.is_ipv4() { [3, 11, 12].contains(&icmp.kind) } else { (1..=4).contains(&icmp.kind) };
    let means = if is_error { means } else { Means::Noise };
    let from = icmp.from.unwrap_or(echo.target);
    // A packet that is too big is told the size that is not: the least that a link of its family may have.
    let size: [u8; 4] = if echo.target.is_ipv4() { [0, 0, 0x02, 0x40] } else { 1280_u32.to_be_bytes() };
    let rest = if matches!((echo.target.is_ipv4(), icmp.kind, icmp.code), (true, 3, 4) | (false, 2, _)) { size } else { [0; 4] };
    (sealed(from, echo.source, message(icmp.kind, icmp.code, rest, &quote)), means)
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::request;
    use super::*;

    fn rule(text: &str) -> Rule {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn meant(rule: &Rule, nth: u64) -> Vec<Means> {
        answer(rule, nth, &request("10.78.0.1")).iter().map(|reply| reply.means).collect()
    }

    #[test]
    fn without_exceptions_every_request_gets_its_right_reply_in_turn() {
        for target in ["10.78.0.1", "fd78::1"] {
            let (rule, echo) = (rule("delays = ['1ms', '5ms']"), request(target));
            for (nth, millis) in [(0, 1), (1, 5), (2, 1)] {
                let bytes = sealed(echo.target, echo.source, echo.reply(echo.ident, echo.sequence, echo.payload()));
                let reply = Reply { after: Duration::from_millis(millis), means: Means::Genuine, bytes };
                assert_eq!(answer(&rule, nth, &echo), [reply]);
            }
        }
    }

    #[test]
    fn exceptions_are_for_every_so_many_for_some_or_for_all() {
        let rule = rule("except = [{ at = [0, 3] }, { every = 5, acts = ['genuine', 'genuine'] }]");
        assert_eq!([0, 1, 3, 4, 9].map(|nth| meant(&rule, nth).len()), [0, 1, 0, 2, 2]);
        assert_eq!(meant(&self::rule("except = [{ acts = ['damaged_byte'] }]"), 7), [Means::Damaged]);
    }

    #[test]
    fn what_is_no_answer_differs_from_the_right_reply() {
        let acts = [
            "'bad_checksum'",
            "'other_source'",
            "'other_ident'",
            "'other_sequence'",
            "'shifted'",
            "{ guesses = 200 }",
            "{ cut_to = 15 }",
            "{ total_length = 1 }",
            "{ other = 5 }",
            "{ error = { type = 3, code = 1, quote = 'truncated' } }",
            "{ error = { type = 3, code = 1, quote = 'other_target' } }",
        ];
        for target in ["10.78.0.1", "fd78::1"] {
            let echo = request(target);
            let right = answer(&Rule::default(), 0, &echo).remove(0).bytes;
            for act in acts {
                let replies = answer(&rule(&format!("except = [{{ acts = [{act}] }}]")), 0, &echo);
                assert!(!replies.is_empty() && replies.iter().all(|reply| reply.means == Means::Noise && reply.bytes != right), "{act}");
            }
        }
    }

    #[test]
    fn every_guess_is_another_and_none_is_right() {
        let payload = [7; 56];
        let guesses: std::collections::HashSet<_> =
            (0..100).flat_map(|nth| (0..100).map(move |guess| guessed(&payload, nth, guess))).collect();
        assert!(guesses.iter().all(|guess| guess[..8] != payload[..8] && guess[8..] == payload[8..]));
        assert!(guesses.len() > 3000, "{}", guesses.len());
    }

    #[test]
    fn an_error_quotes_the_request_and_comes_from_whom_the_rule_names() {
        let echo = request("10.78.0.1");
        let rule = rule("except = [{ acts = [{ error = { type = 3, code = 1, from = '10.78.9.9', quote = 'least' } }] }]");
        let reply = answer(&rule, 0, &echo).remove(0);
        assert_eq!((reply.means, &reply.bytes[12..16], &reply.bytes[20..22]), (Means::Error, &[10, 78, 9, 9][..], &[3, 1][..]));
        assert_eq!(&reply.bytes[28..], echo.quote(8));
    }
}
