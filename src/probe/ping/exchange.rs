//! The exchange of packets, a turn at a time: read what has arrived, send what is due, close what is over.
//!
//! Nothing here waits; the engine does.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use super::flight::{Arrival, Departure};
use super::pace::Pace;
use super::packet::{self, Family, Incoming};
use super::port::{self, A_TURN, Port, Told};
use super::run::Tally;
use super::session::{Answered, Request, RunId, Session};
use super::socket::Channel;
use super::wire::Heard;
use crate::clock::{Clock, Moment};
use crate::sys::{Inbox, Outgoing};

/// The network can make a receive buffer overflow as often as it likes; the log says so once in this time.
const OVERFLOW_TOLD_EVERY: Duration = Duration::from_mins(1);

/// How often the clock is looked at for one packet, should it stand still.
const MOST_LOOKS: usize = 100_000;

/// Someone who watches a run packet by packet.
pub type Watcher = Rc<dyn Fn(Answered)>;

/// Everything on its way, and the sockets that it goes through.
pub(super) struct State {
    pub(super) session: Session,
    pub(super) ports: Vec<Port>,
    /// What is to be sent now, for each port.
    parcels: Vec<Vec<Parcel>>,
    pub(super) pace: Pace,
    pub(super) random: StdRng,
    inbox: Inbox,
    pub(super) waiting: HashMap<RunId, Waiting>,
    overflow_told: Option<Duration>,
}

/// Where packets go, and what goes beside them, as the kernel wants it.
pub(super) struct Address {
    pub(super) to: Vec<u8>,
    pub(super) control: Vec<u8>,
}

/// A request with its bytes.
struct Parcel {
    request: Request,
    message: Vec<u8>,
    address: Rc<Address>,
}

impl Parcel {
    fn new(request: Request, family: Family, address: Rc<Address>) -> Self {
        let Request { key, token, size, .. } = request;
        Self { request, message: packet::echo_request(family, key.ident, key.sequence, token, size), address }
    }

    fn outgoing(&self) -> (Outgoing<'_>, RunId, usize) {
        let Address { to, control } = &*self.address;
        (Outgoing { message: &self.message, to, control }, self.request.run, self.request.index)
    }
}

/// Who waits for a run.
pub(super) struct Waiting {
    pub(super) address: Rc<Address>,
    pub(super) channel: Channel,
    pub(super) done: oneshot::Sender<Tally>,
    pub(super) watcher: Option<Watcher>,
}

impl State {
    /// Nothing on its way.
    pub(super) fn new(ports: Vec<Port>, inbox: Inbox) -> Self {
        Self {
            session: Session::new(),
            pace: Pace::new(ports.iter().map(Port::receive_buffer).min().unwrap_or_default()),
            parcels: ports.iter().map(|_| Vec::new()).collect(),
            ports,
            random: StdRng::from_rng(&mut rand::rng()),
            inbox,
            waiting: HashMap::new(),
            overflow_told: None,
        }
    }

    /// Reads what has arrived; true if there may be more. Where a run is to be judged every port is read, as the event loop may
    /// not have come round since something arrived.
    pub(super) fn listen(&mut self, clock: &Clock, now: Duration) -> bool {
        let mut more = false;
        let Self { session, ports, inbox, waiting, overflow_told, .. } = self;
        let judging = session.is_any_over(now);
        for port in ports {
            let wanted = port.take_ready() || (judging && port.hears());
            if !wanted {
                continue;
            }
            understand_errors(session, waiting, port, inbox, clock);
            let family = port.family();
            let mut batches = 0;
            while batches < A_TURN {
                batches += 1;
                let mut now = None;
                let all = port.read(inbox, |heard| {
                    let now = *now.get_or_insert_with(|| clock.now());
                    understand_message(session, waiting, family, &heard, now);
                });
                if all {
                    break;
                }
                // The stamps of what is read next may be there only now.
                understand_errors(session, waiting, port, inbox, clock);
            }
            more |= batches == A_TURN;
            port.doubtful().for_each(|(run, index)| session.forget_stamp(run, index));
            if let Some(dropped) = port.overflowed() {
                session.overflow(on_channel(waiting, port.channel()));
                let now = clock.mono();
                if overflow_told.is_none_or(|told| now.saturating_sub(told) > OVERFLOW_TOLD_EVERY) {
                    *overflow_told = Some(now);
                    tracing::warn!(?family, dropped, "receive buffer overflowed, missing replies count as local drops");
                }
            }
        }
        more
    }

    /// When to look again, if nothing arrives before.
    pub(super) fn wake(&self) -> Option<Duration> {
        let send = self.session.send_at().map(|due| self.pace.wake(due));
        send.into_iter().chain(self.session.end_at()).min()
    }

    /// Waits awake for a packet that is due in a moment.
    fn meet(&self, clock: &Clock) {
        let Some(due) = self.session.send_at().filter(|due| self.pace.meets(clock.mono(), *due)) else { return };
        for _ in 0..MOST_LOOKS {
            if clock.mono() >= due {
                break;
            }
            std::hint::spin_loop();
        }
    }

    /// Sends what is due, in bursts that the pace allows.
    pub(super) fn send_due(&mut self, clock: &Clock) {
        self.meet(clock);
        let now = clock.mono();
        let Some(mut allowance) = self.pace.allowance(now) else { return };
        let mut due = Vec::new();
        while allowance.is_left()
            && let Some(request) = self.session.next_send(now)
        {
            allowance.spend(request.size, request.spacing);
            due.push(request);
        }
        for request in &due {
            // Whoever waits for the run has an open port.
            let Some(Waiting { address, channel, .. }) = self.waiting.get(&request.run) else { continue };
            if let Some(number) = self.ports.iter().position(|port| port.channel() == *channel) {
                self.parcels[number].push(Parcel::new(*request, channel.family, Rc::clone(address)));
            }
        }
        for number in 0..self.ports.len() {
            self.send_through(number, clock);
        }
        self.pace.sent(clock.mono(), due.len(), &allowance);
    }

    /// Sends what waits for one port, in bursts that it allows.
    fn send_through(&mut self, number: usize, clock: &Clock) {
        let Self { session, ports, inbox, waiting, parcels, .. } = self;
        let (port, parcels) = (&mut ports[number], &mut parcels[number]);
        let (mut at, mut tried, at_once) = (0, false, port.burst());
        while at < parcels.len() {
            let burst = &parcels[at..parcels.len().min(at + at_once)];
            let now = clock.now();
            let departure = Departure { mono: now.mono, wall: now.unix };
            let outcome = port.send(burst.iter().map(Parcel::outgoing));
            let sent = *outcome.as_ref().unwrap_or(&0);
            burst[..sent].iter().for_each(|parcel| session.sent(&parcel.request, departure));
            if sent < burst.len() {
                // The kernel may have numbered the packet that it did not send.
                understand_errors(session, waiting, port, inbox, clock);
                port.number_anew().for_each(|(run, index)| session.forget_stamp(run, index));
            }
            match outcome {
                Ok(sent) => (at, tried) = (at + sent, false),
                Err(error) if !tried && port.is_worth_another_try(&error) => tried = true,
                Err(error) => {
                    session.refused(&parcels[at].request, port::name_of(&error), now.mono);
                    (at, tried) = (at + 1, false);
                }
            }
        }
        parcels.clear();
    }

    /// Closes what was over at `now`.
    pub(super) fn finish(&mut self, now: Duration) {
        while let Some((run, tally)) = self.session.next_finished(now) {
            if let Some(waiting) = self.waiting.remove(&run) {
                // Whoever waited may be gone.
                let _ = waiting.done.send(tally);
            }
        }
    }
}

/// What the error queue holds.
fn understand_errors(session: &mut Session, waiting: &HashMap<RunId, Waiting>, port: &mut Port, inbox: &mut Inbox, clock: &Clock) {
    let mut now = None;
    port.read_errors(inbox, |told| {
        let now = *now.get_or_insert_with(|| clock.mono());
        match told {
            Told::Left(run, index, at) => session.transmitted(run, index, at, now),
            Told::Undelivered(from, error, quoted) => tell(waiting, session.icmp_error(from, error, quoted, now)),
        }
    });
    if port.is_out_of_step() {
        port.number_anew().for_each(|(run, index)| session.forget_stamp(run, index));
    }
}

/// An ICMP message.
fn understand_message(session: &mut Session, waiting: &HashMap<RunId, Waiting>, family: Family, heard: &Heard<'_>, now: Moment) {
    let Heard::Message { from, message: Ok(message), ttl, stamp } = heard else { return };
    let arrival = Arrival { mono: now.mono, wall: now.unix, wire: *stamp, ttl: *ttl };
    match packet::parse(family, message) {
        Ok(Incoming::Reply { ident, sequence, payload }) => {
            tell(waiting, session.reply(packet::Key { peer: *from, ident, sequence }, payload, arrival));
        }
        Ok(Incoming::Error { error, quoted }) => tell(waiting, session.icmp_error(*from, error, quoted, arrival.mono)),
        Ok(Incoming::Other) => {}
        Err(malformed) => tracing::trace!(%from, %malformed, "icmp message ignored"),
    }
}

/// The runs that go through a channel.
fn on_channel(waiting: &HashMap<RunId, Waiting>, channel: Channel) -> impl Iterator<Item = RunId> {
    waiting.iter().filter(move |(_, waiting)| waiting.channel == channel).map(|(run, _)| *run)
}

fn tell(waiting: &HashMap<RunId, Waiting>, answered: Option<Answered>) {
    if let Some(answered) = answered
        && let Some(watcher) = waiting.get(&answered.run).and_then(|waiting| waiting.watcher.as_ref())
    {
        watcher(answered);
    }
}
