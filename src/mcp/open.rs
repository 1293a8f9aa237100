//! Requests whose answers are not written yet, and the batches in which some of them came: what an answer waits for, and what becomes of
//! those to cancelled requests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rmcp::model::RequestId;
use serde_json::Value;
use tokio::sync::Notify;

/// Requests whose answers are not written yet.
#[derive(Default)]
pub struct Open {
    /// Those whose answers are yet to be given, or wait for others of their batch. Who cancels a request wants no answer to it.
    ids: Mutex<HashSet<RequestId>>,
    /// How many more have answers on their way out. Cancelled, they are there all the same.
    writing: AtomicUsize,
    /// In the order in which they came: the last may be one that is being read.
    batches: Mutex<Vec<Batch>>,
    /// Both sides have agreed on the revision that has batches.
    pub has_batches: AtomicBool,
    /// There are fewer than before.
    pub fewer: Notify,
}

/// Messages that came as one, and whose answers go out as one.
#[derive(Default)]
pub struct Batch {
    /// Its requests that have no answer yet.
    waiting: HashSet<RequestId>,
    /// The answers so far, each with the request that it closes.
    answers: Vec<(Option<RequestId>, Value)>,
    /// All of it was read.
    is_read: bool,
}

impl Batch {
    /// Whether nothing more is to come.
    fn is_whole(&self) -> bool {
        self.is_read && self.waiting.is_empty()
    }
}

/// What becomes of an answer.
pub enum Out {
    /// It is written as it is.
    Alone,
    /// It waits for others of its batch.
    Later,
    /// It was the last of its batch, whose answers are written: so many, as this array.
    All(usize, Value),
    /// Its request was cancelled.
    Nowhere,
}

impl Open {
    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<RequestId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more; false where one of this id is among them.
    pub fn add(&self, id: &RequestId) -> bool {
        self.ids().insert(id.clone())
    }

    /// Forgets one that gets no answer of its own.
    pub fn close(&self, id: &RequestId) {
        self.ids().remove(id);
        self.fewer.notify_one();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ids().len() + self.writing.load(Ordering::Relaxed)
    }

    /// So many answers are out.
    pub fn written(&self, n: usize) {
        self.writing.fetch_sub(n, Ordering::Relaxed);
        self.fewer.notify_one();
    }

    /// Those under way.
    pub fn batches(&self) -> std::sync::MutexGuard<'_, Vec<Batch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch is being read from here on.
    pub fn begin_batch(&self) {
        self.batches().push(Batch::default());
    }

    /// The batch that is being read has this request in it, or this error for a member that is none.
    pub fn put(&self, member: Result<&RequestId, &Value>) {
        if let Some(batch) = self.batches().last_mut() {
            match member {
                Ok(id) => _ = batch.waiting.insert(id.clone()),
                Err(error) => batch.answers.push((None, error.clone())),
            }
        }
    }

    /// The batch that was being read has no more members; the batch, if no answer of it is to come.
    pub fn end_batch(&self) -> Option<Batch> {
        let mut batches = self.batches();
        if let Some(batch) = batches.last_mut() {
            batch.is_read = true;
        }
        batches.pop_if(|b| b.is_whole())
    }

    /// The array of a batch's answers, if it has any, and to how many requests those are. They are on their way out from here.
    pub fn out(&self, batch: Batch) -> Option<(usize, Value)> {
        if batch.answers.is_empty() {
            return None;
        }
        let (of, answers): (Vec<_>, Vec<_>) = batch.answers.into_iter().unzip();
        let mut ids = self.ids();
        let n = of.iter().flatten().filter(|id| ids.remove(*id)).count();
        self.writing.fetch_add(n, Ordering::Relaxed);
        Some((n, answers.into()))
    }

    /// Puts an answer to the others of its request's batch, if it came in one.
    pub fn answered(&self, id: &RequestId, answer: impl FnOnce() -> Value) -> Out {
        let mut batches = self.batches();
        let Some(i) = batches.iter().position(|b| b.waiting.contains(id)) else {
            let mut ids = self.ids();
            if !ids.remove(id) {
                return Out::Nowhere;
            }
            self.writing.fetch_add(1, Ordering::Relaxed);
            return Out::Alone;
        };
        batches[i].waiting.remove(id);
        batches[i].answers.push((Some(id.clone()), answer()));
        if !batches[i].is_whole() {
            return Out::Later;
        }
        match self.out(batches.remove(i)) {
            Some((n, answers)) => Out::All(n, answers),
            None => Out::Nowhere,
        }
    }

    /// Nobody wants the answer to this request any more; its batch, if nothing else of that is to come.
    pub fn cancelled(&self, id: &RequestId) -> Option<Batch> {
        let mut batches = self.batches();
        self.close(id);
        let is_its =
            |b: &Batch| b.waiting.contains(id) || b.answers.iter().any(|(of, _)| of.as_ref() == Some(id));
        let i = batches.iter().position(is_its)?;
        batches[i].waiting.remove(id);
        batches[i].answers.retain(|(of, _)| of.as_ref() != Some(id));
        batches[i].is_whole().then(|| batches.remove(i))
    }
}
