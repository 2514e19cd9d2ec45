//! Lines on their way to a log that may not take them. Whoever logs never waits, and every line that did not fit is counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::one_line::one_line;

/// Lines that wait for the one thread that writes them.
pub(super) struct Queue {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// A line is being written.
    writing: bool,
    /// Lines that did not fit and have not been told.
    lost: u64,
}

impl Queue {
    /// With room for this many lines.
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes a line if there is room. The lock is never held while anything is written.
    fn push(&self, line: &[u8]) {
        let mut state = self.held();
        if state.lines.len() < self.most {
            state.lines.push_back(line.to_vec());
            self.changed.notify_all();
        } else {
            state.lost += 1;
        }
    }

    /// Writes line after line, for ever. `between` is called after each, and a while after the last for as long as it says so.
    pub(super) fn write_to(&self, mut log: impl Write, mut between: impl FnMut() -> Option<Duration>) {
        let mut patience = None;
        loop {
            if let Some(line) = self.next(patience)
                && log.write_all(&line).is_ok()
                && let Some(lines) = self.caught_up()
            {
                tracing::warn!(lines, "log lines were lost, as nobody took them");
            }
            patience = between();
        }
    }

    /// The next line; none if there is none for this long.
    fn next(&self, patience: Option<Duration>) -> Option<Vec<u8>> {
        let mut state = self.held();
        state.writing = false;
        if state.lines.is_empty() {
            self.changed.notify_all();
        }
        let idle = |state: &mut State| state.lines.is_empty();
        let mut state = match patience {
            Some(patience) => self.changed.wait_timeout_while(state, patience, idle).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
        };
        let line = state.lines.pop_front();
        state.writing = line.is_some();
        line
    }

    /// How many lines were lost; told when all the others are written, so that the telling cannot crowd out more.
    fn caught_up(&self) -> Option<u64> {
        let mut state = self.held();
        (state.lines.is_empty() && state.lost > 0).then(|| std::mem::take(&mut state.lost))
    }

    /// Waits until every line is written, for so long at most.
    pub(super) fn flush(&self, longest: Duration) {
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        // Whatever it waited for in vain is lost with the process.
        drop(self.changed.wait_timeout_while(self.held(), longest, busy));
    }

    /// A panic elsewhere leaves the state whole: every change to it is a single step.
    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where tracing writes: whole lines, each with one call.
pub(super) struct Lines {
    pub(super) queue: Arc<Queue>,
    /// Whether they have colours.
    pub(super) colours: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.queue, colours: self.colours }
    }
}

/// Takes a line.
pub(super) struct Line<'a> {
    queue: &'a Queue,
    colours: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(&one_line(line, self.colours));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const AGES: Duration = Duration::from_secs(20);

    /// A log that takes a line only when it is told to, and says which.
    struct Reluctant {
        allowed: mpsc::Receiver<()>,
        taken: mpsc::Sender<String>,
    }

    impl Write for Reluctant {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(io::Error::other)?;
            self.taken.send(String::from_utf8_lossy(line).into_owned()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes a queue to such a log, also what is logged meanwhile by whoever writes.
    fn reluctantly(queue: &Arc<Queue>) -> (mpsc::Sender<()>, mpsc::Receiver<String>) {
        let ((take, allowed), (taken, lines)) = (mpsc::channel(), mpsc::channel());
        let queue = Arc::clone(queue);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Lines { queue: Arc::clone(&queue), colours: false })
            .without_time()
            .with_ansi(false)
            .finish();
        std::thread::spawn(move || {
            tracing::subscriber::with_default(subscriber, || queue.write_to(Reluctant { allowed, taken }, || None));
        });
        (take, lines)
    }

    #[test]
    fn lines_that_do_not_fit_are_lost_and_told_once_the_others_are_written() {
        let queue = Arc::new(Queue::new(4));
        for number in 0..10 {
            queue.push(format!("line {number}").as_bytes());
        }
        let (take, lines) = reluctantly(&queue);
        for number in 0..4 {
            take.send(()).unwrap();
            assert_eq!(lines.recv_timeout(AGES).unwrap(), format!("line {number}"));
        }
        take.send(()).unwrap();
        let told = lines.recv_timeout(AGES).unwrap();
        assert!(told.contains("log lines were lost") && told.contains("lines=6"), "{told}");
        queue.push(b"another");
        take.send(()).unwrap();
        assert_eq!(lines.recv_timeout(AGES).unwrap(), "another", "it is told once");
    }

    #[test]
    fn the_end_waits_for_lines_that_are_taken_and_not_for_a_log_that_takes_none() {
        let queue = Arc::new(Queue::new(4));
        let (take, lines) = reluctantly(&queue);
        queue.push(b"one");
        queue.push(b"two");
        queue.flush(Duration::from_millis(50));
        assert_eq!(lines.try_recv().ok(), None, "nothing was taken, and it did not wait for that");
        take.send(()).unwrap();
        take.send(()).unwrap();
        queue.flush(AGES);
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["one", "two"]);
    }
}
