//! An outbox in a world that does anything: answers, reads that fail, restarts.

use proptest::prelude::*;

use super::*;

/// What a server may do with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    Store,
    StoreAndLoseTheAnswer,
    LoseTheRequest,
    StoreHalfAndRefuse,
    TooLarge,
    Hold,
    Later,
    CrashOfTheWriter,
}

fn act() -> impl Strategy<Value = Act> {
    use Act::*;
    prop_oneof![
        5 => Just(Store), 2 => Just(StoreAndLoseTheAnswer), 2 => Just(LoseTheRequest), 2 => Just(StoreHalfAndRefuse),
        1 => Just(TooLarge), 1 => Just(Hold), 1 => Just(Later), 1 => Just(CrashOfTheWriter),
    ]
}

/// The world around an outbox: a journal with gaps, durable acknowledgements, a server that stores a set.
struct World {
    outbox: Outbox,
    limits: Limits,
    durable: Acknowledged,
    journal: BTreeSet<u64>,
    stored: BTreeSet<u64>,
    /// Letters, each kept with the acknowledgement of its row.
    dead: BTreeSet<u64>,
    now: Duration,
    tip: u64,
    unanswered: Option<Bytes>,
    requests: usize,
}

impl World {
    fn new(batch_size: usize) -> Self {
        let limits = Limits { batch_size, flush_interval: SECOND };
        let durable = Acknowledged::starting_at(p(0));
        let outbox = Outbox::new(durable.clone(), limits);
        let (journal, stored, dead) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { outbox, limits, durable, journal, stored, dead, now: s(0), tip: 0, unanswered: None, requests: 0 }
    }

    /// Rows become durable; some positions stay unused.
    fn grow(&mut self, rows: u64) {
        self.journal.extend((self.tip + 1..=self.tip + rows).filter(|position| position % 7 != 3));
        self.tip += rows;
    }

    fn what_is_acknowledged_is_stored_or_dead(&self) {
        for position in &self.journal {
            let there = self.stored.contains(position) || self.dead.contains(position);
            assert!(!self.durable.contains(p(*position)) || there, "{position} acknowledged, not stored");
        }
    }

    /// One step, with the server doing `act` if it comes to that and refusing what is poisoned. False if there is nothing to do but wait.
    fn step(&mut self, act: Act, poisoned: impl Fn(u64) -> bool) -> bool {
        match self.outbox.next(self.now, p(self.tip)) {
            Step::Read(reading) => {
                assert!(reading.limit <= self.limits.batch_size && reading.upto.0 <= self.tip);
                let positions = read(&self.journal, &reading);
                let body = (!positions.is_empty()).then(|| body(&positions));
                self.outbox.loaded(self.now, reading, positions, body);
            }
            Step::Post { body, rows } => self.post(&body, rows, act, poisoned),
            Step::Wait(until) => {
                assert!(until > self.now);
                self.now = until;
            }
            Step::Idle => return false,
        }
        for letter in self.outbox.take_dead() {
            assert!(self.dead.insert(letter.position.0), "buried twice");
        }
        if let Some(acknowledged) = self.outbox.take_changed() {
            self.durable = acknowledged.clone();
        }
        true
    }

    fn post(&mut self, body: &Bytes, rows: usize, act: Act, poisoned: impl Fn(u64) -> bool) {
        assert!(rows <= self.limits.batch_size);
        if let Some(before) = self.unanswered.take() {
            assert_eq!(&before, body, "a retry must be the same bytes");
        }
        self.requests += 1;
        let rows = carried(body);
        let good: Vec<u64> = rows.iter().copied().filter(|row| !poisoned(*row)).collect();
        let verdict = match act {
            Act::Store | Act::StoreAndLoseTheAnswer if good.len() < rows.len() => {
                self.stored.extend(good);
                refused()
            }
            Act::Store => {
                self.stored.extend(good);
                Verdict::Accepted
            }
            Act::StoreAndLoseTheAnswer => {
                self.stored.extend(good);
                unknown()
            }
            Act::LoseTheRequest => unknown(),
            Act::StoreHalfAndRefuse => {
                self.stored.extend(&good[..good.len() / 2]);
                refused()
            }
            Act::TooLarge => Verdict::TooLarge,
            Act::Hold => Verdict::Hold { why: "401".to_owned() },
            Act::Later => Verdict::After { wait: s(7), why: "429".to_owned() },
            Act::CrashOfTheWriter => {
                self.outbox = Outbox::new(self.durable.clone(), self.limits);
                return;
            }
        };
        if let Verdict::Unknown { .. } | Verdict::Hold { .. } | Verdict::After { .. } = verdict {
            self.unanswered = Some(body.clone());
        }
        self.outbox.answered(self.now, 0.5, verdict);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_the_server_does_every_row_is_stored_or_a_dead_letter_in_the_end(
        batch_size in 1usize..40,
        script in prop::collection::vec((0u64..30, act()), 1..150),
        poison in 5u64..50,
    ) {
        let mut world = World::new(batch_size);
        for (rows, act) in script {
            world.grow(rows);
            world.step(act, |row| row % poison == 0);
            world.what_is_acknowledged_is_stored_or_dead();
        }
        // From now on the server takes everything.
        let mut steps = 0;
        while world.step(Act::Store, |_| false) {
            steps += 1;
            prop_assert!(steps < 20_000, "never done");
        }
        prop_assert_eq!(&world.stored | &world.dead, world.journal.clone());
        prop_assert_eq!(world.durable.floor(), p(world.tip));
        prop_assert_eq!((world.outbox.pending(), world.outbox.failing()), (0, None));
    }

    #[test]
    fn a_bad_row_costs_no_more_requests_than_the_contract_allows(exponent in 0u32..13, bad in any::<prop::sample::Index>()) {
        let rows = 1u64 << exponent;
        let bad = bad.index(rows as usize) as u64 + 1;
        let mut outbox = outbox(rows as usize);
        let mut requests = 0;
        while let Step::Read(_) | Step::Post { .. } = outbox.next(s(0), p(rows)) {
            let sent = posted(&mut outbox, s(0), rows, &all(rows));
            requests += 1;
            outbox.answered(s(0), 0.0, if sent.contains(&bad) { refused() } else { Verdict::Accepted });
        }
        prop_assert!(requests <= 2 * exponent + 2, "{} requests for {} rows", requests, rows);
        prop_assert_eq!((outbox.take_dead().len(), outbox.pending()), (1, 0));
    }
}
