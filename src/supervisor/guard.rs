//! An actor's task, guarded: whatever ends it becomes an [`Exit`].
//!
//! A panic in an actix actor ends its task, and dropping the broken actor polls it once more, where a second panic would
//! end the process. So the task is polled under `catch_unwind`, and a broken actor is terminated before it is dropped.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context as TaskContext, Poll};

use actix::dev::ContextFut;
use actix::{Actor, ActorContext, Context};

use super::Exit;

#[cfg(not(panic = "unwind"))]
compile_error!("qosd needs panic = \"unwind\": a panic costs one actor, never the process");

thread_local! {
    /// Whether a panic on this thread is caught and reported by whoever runs it.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes panics remember where they were. To be called once at the start.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let at = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
            if !GUARDED.get() {
                let message = info.payload_as_str().unwrap_or("no message");
                tracing::error!(%at, message, thread = std::thread::current().name().unwrap_or("unnamed"), "panic");
            }
            LAST_PANIC_AT.with_borrow_mut(|last| *last = at);
        }));
    });
}

/// Runs something whose panics its caller catches and reports: the log need not.
pub fn guarded<T>(run: impl FnOnce() -> T) -> std::thread::Result<T> {
    let before = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(before);
    outcome
}

/// What a panic said, and where it was.
pub fn explain_panic(panic: &(dyn Any + Send)) -> (String, String) {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    (text.unwrap_or_else(|| "panic without a message".to_owned()), LAST_PANIC_AT.with_borrow(Clone::clone))
}

/// An actor with its context and mailbox, as a future.
type Task<A> = Pin<Box<ContextFut<A, Context<A>>>>;

/// The task of an actor.
pub struct Guarded<A: Actor<Context = Context<A>>>(Option<Task<A>>);

impl<A: Actor<Context = Context<A>>> Guarded<A> {
    /// Guards an actor that is to live in this context.
    pub fn new(context: Context<A>, actor: A) -> Self {
        Self(Some(Box::pin(context.into_future(actor))))
    }
}

impl<A: Actor<Context = Context<A>>> Future for Guarded<A> {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Exit> {
        let Some(future) = self.0.as_mut() else { return Poll::Ready(Exit::Stopped) };
        match guarded(|| future.as_mut().poll(task)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                self.bury();
                Poll::Ready(Exit::Stopped)
            }
            Err(panic) => {
                let (message, at) = explain_panic(&*panic);
                self.bury();
                Poll::Ready(Exit::Panicked { message, at })
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> Guarded<A> {
    /// Drops the actor so that a panic while it goes harms nobody.
    fn bury(&mut self) {
        if let Some(mut future) = self.0.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| future.ctx().terminate()));
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        }
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Guarded<A> {
    fn drop(&mut self) {
        self.bury();
    }
}
