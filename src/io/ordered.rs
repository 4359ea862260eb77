//! Work on a stream of items on all threads, results in the order of the items, memory bounded.
//!
//! The thread that asks for results also reads the items: while it reads, and while it writes what it got, the others work.
//! So many items are under way as keep all threads busy, or so many bytes, whichever is less.

use std::collections::VecDeque;
use std::sync::mpsc::{sync_channel, Receiver, TryRecvError};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Most bytes of items under way; one item may be larger.
const BYTES: usize = 256 << 20;

/// Pieces of work under way, their results in the order in which they were handed in.
pub struct Queue<T> {
    waiting: VecDeque<(Receiver<T>, usize)>,
    held: usize,
    most: usize,
    depth: usize,
}

impl<T: Send + 'static> Queue<T> {
    /// Nothing under way; at most `most` bytes are to be, apart from a piece that is larger.
    pub fn new(most: usize) -> Queue<T> {
        let depth = 2 * rayon::current_num_threads() + 2;
        Queue { waiting: VecDeque::new(), held: 0, most, depth }
    }

    /// Whether there is room for another piece.
    pub fn has_room(&self) -> bool {
        self.waiting.is_empty() || (self.waiting.len() < self.depth && self.held < self.most)
    }

    /// Hands a piece that holds `size` bytes to the thread pool.
    pub fn push(&mut self, size: usize, work: impl FnOnce() -> T + Send + 'static) {
        let (send, receive) = sync_channel(1);
        rayon::spawn(move || {
            let _ = send.send(work()); // nobody waits for it any more: the run has stopped
        });
        self.waiting.push_back((receive, size));
        self.held += size;
    }

    /// The result of the oldest piece, waited for; none where nothing is under way.
    pub fn pop(&mut self) -> Option<Result<T>> {
        let (result, size) = self.waiting.pop_front()?;
        self.held -= size;
        while rayon::current_thread_index().is_some() {
            match result.try_recv() {
                Ok(done) => return Some(Ok(done)),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let _ = rayon::yield_now(); // does other work: a thread of the pool would wait for itself
                }
            }
        }
        Some(result.recv().map_err(Error::compute("working on a record")))
    }
}

/// Results in the order of the items they come from.
pub struct Ordered<I: Iterator, W, T> {
    items: I,
    size: fn(&I::Item) -> usize,
    work: Arc<W>,
    queue: Queue<T>,
}

impl<I, W, T> Ordered<I, W, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    W: Fn(I::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Does `work` on every item in the thread pool; `size` is what an item holds, in bytes.
    pub fn new(items: I, size: fn(&I::Item) -> usize, work: W) -> Self {
        Ordered { items, size, work: Arc::new(work), queue: Queue::new(BYTES) }
    }

    /// Reads items and hands them out as long as there is room.
    fn fill(&mut self) {
        while self.queue.has_room() {
            let Some(item) = self.items.next() else { break };
            let work = Arc::clone(&self.work);
            self.queue.push((self.size)(&item), move || work(item));
        }
    }
}

impl<I, W, T> Iterator for Ordered<I, W, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    W: Fn(I::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        self.queue.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        let work = |n: u64| {
            std::thread::sleep(std::time::Duration::from_micros((n * 7919) % 1000));
            n * n
        };
        let results: Vec<u64> = Ordered::new(0..500, |_| 8, work).map(|r| r.unwrap()).collect();
        assert_eq!(results, (0..500).map(|n| n * n).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_in_a_worker_is_an_error_of_that_item() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).panic_handler(|_| {}).build().unwrap();
        let work = |n: u64| if n == 3 { panic!("on purpose") } else { n };
        let results: Vec<_> = pool.install(|| Ordered::new(0..6, |_| 8, work).map(|r| r.ok()).collect());
        assert_eq!(results, [Some(0), Some(1), Some(2), None, Some(4), Some(5)]);
    }

    #[test]
    fn no_more_is_read_ahead_than_there_is_room_for() {
        static READ: AtomicUsize = AtomicUsize::new(0);
        let items = (0..100).inspect(|_| {
            READ.fetch_add(1, Ordering::Relaxed);
        });
        let mut results = Ordered::new(items, |_| BYTES / 2, |n| n);
        assert_eq!(results.next().unwrap().unwrap(), 0);
        assert_eq!(READ.load(Ordering::Relaxed), 2);
        assert_eq!(results.count(), 99);
    }
}
