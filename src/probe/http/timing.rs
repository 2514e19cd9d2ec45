//! From moments to phases: where the time of a request went. Pure.
//!
//! The promise: phases are disjoint and add up to the whole, to the nanosecond, because each begins where the one before
//! it ended. A phase that a request did not have, such as TLS without TLS, is not zero but absent.

use std::time::Duration;

/// What happened when in one exchange with a server, on the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It began.
    pub begun: Duration,
    /// A connection was wanted: there was no kept one.
    pub dialled: Option<Duration>,
    /// The name was asked for.
    pub asked: Option<Duration>,
    /// The name had its address.
    pub resolved: Option<Duration>,
    /// TCP was connected and TLS began.
    pub tls: Option<Duration>,
    /// The connection could be used.
    pub connected: Option<Duration>,
    /// The head of the answer was there.
    pub answered: Option<Duration>,
}

/// Where the time of a request went, redirects included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Looking up the name.
    pub dns: Option<Duration>,
    /// Connecting with TCP.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// Sending the request, and waiting for the head of the answer.
    pub first_byte: Duration,
    /// Reading the rest of the answer.
    pub transfer: Duration,
}

impl Phases {
    /// Of a chain of exchanges that ended at `ended`; each follows on the one before it.
    pub fn of(exchanges: &[Marks], ended: Duration) -> Self {
        let mut phases = Self::default();
        for (index, marks) in exchanges.iter().enumerate() {
            let until = exchanges.get(index + 1).map_or(ended, |next| next.begun);
            phases.add(marks, until);
        }
        phases
    }

    fn add(&mut self, marks: &Marks, until: Duration) {
        let mut cursor = marks.begun;
        // Never back, never beyond: the sum stays the whole whatever the marks are.
        let mut lap = |mark: Duration| {
            let at = mark.min(until).max(cursor);
            at.saturating_sub(std::mem::replace(&mut cursor, at))
        };
        if let Some(resolved) = marks.resolved {
            *self.dns.get_or_insert_default() += lap(resolved);
        }
        if let Some(connected) = marks.connected {
            *self.connect.get_or_insert_default() += lap(marks.tls.unwrap_or(connected));
            if marks.tls.is_some() {
                *self.tls.get_or_insert_default() += lap(connected);
            }
        }
        if let Some(answered) = marks.answered {
            self.first_byte += lap(answered);
        }
        self.transfer += lap(until);
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        [self.dns, self.connect, self.tls].into_iter().flatten().sum::<Duration>() + self.first_byte + self.transfer
    }
}

/// What a request was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking up the name.
    Lookup,
    /// Connecting with TCP.
    Connect,
    /// In the TLS handshake.
    Tls,
    /// Waiting for the head of the answer.
    Answer,
    /// Reading the rest.
    Body,
}

impl Marks {
    /// How far it came.
    pub fn stage(&self) -> Stage {
        match self {
            Self { answered: Some(_), .. } => Stage::Body,
            Self { connected: Some(_), .. } => Stage::Answer,
            Self { tls: Some(_), .. } => Stage::Tls,
            Self { asked: Some(_), resolved: None, .. } => Stage::Lookup,
            Self { dialled: Some(_), .. } => Stage::Connect,
            _ => Stage::Answer,
        }
    }
}

impl Stage {
    /// In words, after "while".
    pub fn words(self) -> &'static str {
        match self {
            Self::Lookup => "looking up the name",
            Self::Connect => "connecting",
            Self::Tls => "in the TLS handshake",
            Self::Answer => "waiting for the answer",
            Self::Body => "reading the answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn https() -> Marks {
        let at = |ms| Some(Duration::from_millis(ms));
        Marks { begun: ms(100), dialled: at(100), asked: at(100), resolved: at(130), tls: at(140), connected: at(180), answered: at(230) }
    }

    #[test]
    fn each_phase_is_from_mark_to_mark() {
        let phases = Phases::of(&[https()], ms(330));
        let expected = Phases { dns: Some(ms(30)), connect: Some(ms(10)), tls: Some(ms(40)), first_byte: ms(50), transfer: ms(100) };
        assert_eq!(phases, expected);
    }

    #[test]
    fn what_a_request_did_not_have_is_absent() {
        let literal = Marks { asked: None, resolved: None, tls: None, ..https() };
        let expected = Phases { dns: None, connect: Some(ms(80)), tls: None, first_byte: ms(50), transfer: ms(70) };
        assert_eq!(Phases::of(&[literal], ms(300)), expected);
        let kept = Marks { connected: None, ..literal };
        let expected = Phases { dns: None, connect: None, tls: None, first_byte: ms(130), transfer: ms(70) };
        assert_eq!(Phases::of(&[kept], ms(300)), expected);
    }

    #[test]
    fn redirects_add_up_phase_by_phase() {
        let later = |mark: Option<Duration>| mark.map(|mark| mark + ms(200));
        let first = Marks { begun: ms(100), connected: Some(ms(105)), answered: Some(ms(110)), ..Marks::default() };
        let https = https();
        let second = Marks {
            begun: ms(300),
            dialled: later(https.dialled),
            asked: later(https.asked),
            resolved: later(https.resolved),
            tls: later(https.tls),
            connected: later(https.connected),
            answered: later(https.answered),
        };
        let phases = Phases::of(&[first, second], ms(450));
        let expected = Phases { dns: Some(ms(30)), connect: Some(ms(15)), tls: Some(ms(40)), first_byte: ms(55), transfer: ms(210) };
        assert_eq!(phases, expected);
        assert_eq!(phases.total(), ms(350));
    }

    #[test]
    fn the_stage_is_the_last_thing_that_began() {
        let kept = Marks::default();
        let dialled = Marks { dialled: Some(ms(0)), ..kept };
        let asked = Marks { asked: Some(ms(1)), ..dialled };
        let resolved = Marks { resolved: Some(ms(2)), ..asked };
        let tls = Marks { tls: Some(ms(3)), ..resolved };
        let connected = Marks { connected: Some(ms(4)), ..tls };
        let answered = Marks { answered: Some(ms(5)), ..connected };
        let stages = [kept, dialled, asked, resolved, tls, connected, answered].map(|marks| marks.stage());
        assert_eq!(stages, [Stage::Answer, Stage::Connect, Stage::Lookup, Stage::Connect, Stage::Tls, Stage::Answer, Stage::Body]);
    }

    fn mark() -> impl Strategy<Value = Option<Duration>> {
        proptest::option::of((0..10_000_u64).prop_map(Duration::from_nanos))
    }

    fn marks() -> impl Strategy<Value = Marks> {
        let all = (0..10_000_u64, mark(), mark(), mark(), mark(), mark());
        all.prop_map(|(begun, asked, resolved, tls, connected, answered)| Marks {
            begun: Duration::from_nanos(begun),
            dialled: asked,
            asked,
            resolved,
            tls,
            connected,
            answered,
        })
    }

    proptest! {
        #[test]
        fn phases_add_up_to_the_whole_whatever_the_marks_are(mut all in proptest::collection::vec(marks(), 1..12), more: u16) {
            all.sort_by_key(|marks| marks.begun);
            let ended = all[all.len() - 1].begun + Duration::from_nanos(more.into());
            prop_assert_eq!(Phases::of(&all, ended).total(), ended.saturating_sub(all[0].begun));
        }
    }
}
