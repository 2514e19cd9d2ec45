//! Dead letters, as outputs and operators see them: buried with an acknowledgement, requeued, read again, settled.
//!
//! What is promised: a row counts as acknowledged only in the commit that holds its letter, or after it; a letter that was
//! requeued is there until its output has taken it or refused it again.

use std::path::Path;

use tokio::sync::{oneshot, watch};

use super::acknowledged::Acknowledged;
use super::letter::{DeadCount, DeadLetter, Requeue, Round};
use super::reader::Found;
use super::shared::held;
use super::{Journal, JournalError, Position, Stored, folder, salvage};
use crate::clock::Clock;

/// The size of the journal by which a write-ahead file is limited while only letters are requeued.
const MAX_SIZE: u64 = 1 << 30;

/// Letters of a round, and the positions of those that are not what was written.
#[derive(Debug, Default)]
pub struct Requeued {
    /// What was written.
    pub rows: Vec<Stored>,
    /// What was not.
    pub damaged: Vec<Position>,
}

impl Journal {
    /// Keeps what an output has acknowledged, and the rows among it that it refused, as dead letters: all in one commit.
    pub fn bury(&self, output: &str, acknowledged: &Acknowledged, letters: Vec<DeadLetter>) {
        let at = self.0.shared.clock.now().unix;
        self.change(|inbox, now| {
            if !letters.is_empty() {
                inbox.letters.bury(output, letters, at);
                inbox.letters_changed(now);
            }
            inbox.acknowledge(output, acknowledged.clone(), now);
        });
    }

    /// Dead letters in memory that are not durable yet. They have no bound of their own: whoever buries many has to wait.
    pub fn letters_waiting(&self) -> usize {
        held(&self.0.shared.inbox).letters.len()
    }

    /// The dead letters of an output.
    pub fn dead(&self, output: &str) -> DeadCount {
        held(&self.0.shared.stats).dead.get(output).copied().unwrap_or_default()
    }

    /// Puts the dead letters of an output, or of all, back into delivery. Durable when it says how many.
    pub async fn requeue(&self, output: Option<&str>) -> Result<u64, JournalError> {
        if let Some(name) = output.filter(|name| !held(&self.0.shared.inbox).outputs.contains_key(*name)) {
            return Err(JournalError::NoOutput(name.to_owned()));
        }
        let (tell, answer) = oneshot::channel();
        let wish = Requeue { output: output.map(str::to_owned), tell };
        self.change(|inbox, now| inbox.requeue(wish, now));
        answer.await.map_err(|_| JournalError::Stopped)?
    }

    /// How often dead letters were requeued, as it changes.
    pub fn requeues(&self) -> watch::Receiver<u64> {
        self.0.shared.requeues.subscribe()
    }

    /// The oldest round of an output that is not over, if there is one.
    pub async fn round(&self, output: &str) -> Result<Option<Round>, JournalError> {
        if self.change(|inbox, _| inbox.letters.is_settling(output)) {
            // What is delivered already is not to be found again.
            self.flush().await?;
        }
        let output = output.to_owned();
        self.ask(move |shared| shared.ask(|reader| reader.round(&output))).await
    }

    /// At most `limit` letters of a round after `after`, up to and with `upto`, in order of position. Fewer only if there are
    /// no more.
    pub async fn read_round(
        &self,
        output: &str,
        round: Round,
        (after, upto): (Position, Position),
        limit: usize,
    ) -> Result<Requeued, JournalError> {
        let output = output.to_owned();
        let found = self.ask(move |shared| shared.ask(|reader| reader.letters(&output, round.number, (after, upto), limit)));
        let Found { rows, damaged } = found.await?;
        Ok(Requeued { rows, damaged: damaged.into_iter().map(Position).collect() })
    }

    /// Keeps what became of a round: of what is acknowledged, `letters` are dead again, and the others delivered.
    pub fn settle(&self, output: &str, round: Round, acknowledged: &Acknowledged, letters: Vec<DeadLetter>) {
        let at = self.0.shared.clock.now().unix;
        self.change(|inbox, now| {
            inbox.letters.settle(output, round.number, acknowledged.clone(), letters, at);
            inbox.letters_changed(now);
        });
    }
}

/// As [`Journal::requeue`], in the journal in `dir` while no qosd has it open.
pub fn requeue(dir: &Path, output: Option<&str>) -> Result<u64, JournalError> {
    let path = dir.join(folder::FILE);
    // Not made here: by whom it is made decides who may read it.
    if !path.is_file() {
        return Err(JournalError::Missing(path));
    }
    let owned = folder::own(dir)?;
    // As the service would: what it would repair must not be spoilt.
    let mut store = salvage::open(&owned.file, MAX_SIZE, Clock::system().now().unix)?;
    if let Some(name) = output
        && !store.outputs()?.contains_key(name)
    {
        return Err(JournalError::NoOutput(name.to_owned()));
    }
    store.requeue(output)
}
