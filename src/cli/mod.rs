//! What the programs share: the frame around `main`, options, messages, rejected records.
//!
//! Exit codes: 0 done (also when the reader of our pipe leaves early), 1 the work failed, 2 the command line was wrong.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::Parser;

use crate::checkpoint::Weights;
use crate::data::Provenance;
use crate::error::Result;
use crate::io::output::remove_unfinished;
use crate::io::scratch;
use crate::kernel::gemm::Precision;

pub mod args;
pub mod baseline;
pub mod check;
pub mod clips;
pub mod dataset;
pub mod ecg;
pub mod evaluate;
pub mod figures;
pub mod folds;
pub mod generator;
pub mod import;
pub mod journal;
pub mod learn;
pub mod log;
pub mod predict;
pub mod prepare;
pub mod pretrain;
pub mod reject;
pub mod render;
pub mod session;
pub mod simulate;
pub mod train;
pub mod trial;

use args::LogArgs;
use log::Log;
use reject::Rejects;

/// A program: its arguments, and what it does with them.
pub trait Program: Parser {
    /// The program's name, as errors and provenance give it.
    const NAME: &'static str;
    /// How much it says.
    fn log(&self) -> &LogArgs;
    /// The work.
    ///
    /// # Errors
    /// Whatever stops the work.
    fn run(self, log: &Log) -> Result<()>;
}

/// Parses the command line, runs the program and turns its end into an exit code.
pub fn main_with<P: Program>() -> ExitCode {
    let program = match P::try_parse() {
        Ok(program) => program,
        Err(error) => {
            return ExitCode::from(say(P::NAME, &error));
        }
    };
    let log = Log::new(P::NAME, program.log());
    do_not_lock_files();
    std::env::set_var("RUST_LIB_BACKTRACE", "0"); // else candle adds a stack trace to every error
    remove_unfinished_on_signals();
    match program.run(&log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints what the parser says, help or an error; returns the exit code. In a pipe of several stages an error must name its
/// program. A closed pipe is no error: nobody reads the help.
fn say(name: &str, error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if !error.use_stderr() || !text.starts_with("error:") {
        let _ = error.print();
    } else {
        let _ = std::io::stderr().lock().write_all(format!("{name}: {text}").as_bytes());
    }
    if error.use_stderr() {
        2
    } else {
        0
    }
}

/// HDF5 locks every file it opens, which fails on many network file systems. Our inputs are only read and our unfinished
/// outputs are nobody else's, so a lock guards nothing. A user's own setting stands. No thread of ours runs yet.
fn do_not_lock_files() {
    const LOCKING: &str = "HDF5_USE_FILE_LOCKING";
    if std::env::var_os(LOCKING).is_none() {
        std::env::set_var(LOCKING, "FALSE");
    }
}

/// What the next signal does: [`POLITE`] asks the work to stop, anything else ends the program.
static STOP: AtomicU8 = AtomicU8::new(0);
const POLITE: u8 = 1;
const ASKED: u8 = 2;

/// From now on the first SIGINT, SIGTERM or SIGHUP asks the work to stop; the second ends the program.
pub fn stop_on_signals() {
    STOP.store(POLITE, Ordering::SeqCst);
}

/// Whether a signal has asked the work to stop.
pub fn is_stop_asked() -> bool {
    STOP.load(Ordering::SeqCst) == ASKED
}

/// On SIGINT, SIGTERM and SIGHUP, unless the work is to stop by itself: removes unfinished outputs and what holds input, then
/// ends as the signal would have.
fn remove_unfinished_on_signals() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if STOP.compare_exchange(POLITE, ASKED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                    remove_unfinished();
                    scratch::remove_all();
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        });
    }
}

/// The provenance of this run.
pub fn provenance(tool: &str) -> Provenance {
    let quoted = |word: std::ffi::OsString| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words = std::iter::once(tool.to_owned()).chain(std::env::args_os().skip(1).map(quoted));
    Provenance::now(tool, words.collect::<Vec<_>>().join(" "))
}

/// The provenance of this run, which read `input` and used `weights`.
pub fn provenance_after(tool: &str, input: &Provenance, weights: &Weights) -> Provenance {
    let mut provenance = provenance(tool).after(input);
    provenance.model = Some(weights.id());
    provenance
}

/// The same, for products computed in `precision`: its `model` says so where it is not f32.
pub fn computed_in(mut provenance: Provenance, precision: Precision) -> Provenance {
    if precision == Precision::Bf16 {
        provenance.model = provenance.model.map(|model| format!("{model} in bf16"));
    }
    provenance
}

/// Sizes the thread pools of this process; call before any work.
///
/// # Errors
/// Where the system cannot start the threads.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or_else(available);
    // candle sizes its products by this variable, whatever the pool; the one thread that runs, for signals, reads none.
    std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
    let pool = pool(threads).build_global();
    pool.map_err(crate::error::Error::compute("starting threads"))
}

/// A pool in which a panic ends its own piece of work and not the process: whoever waits for the work gets an error.
fn pool(threads: usize) -> rayon::ThreadPoolBuilder {
    rayon::ThreadPoolBuilder::new().num_threads(threads).panic_handler(|_| {})
}

/// Good records in groups of at most `size`; the bad ones go to `rejects`.
pub fn batches<'a, 'b: 'a, T: 'a>(
    mut records: impl Iterator<Item = Result<T>> + 'a,
    size: usize,
    rejects: &'a Rejects<'b>,
) -> Box<dyn Iterator<Item = Result<Vec<T>>> + 'a> {
    Box::new(std::iter::from_fn(move || {
        let mut batch = Vec::new();
        while batch.len() < size.max(1) {
            match records.next().map(|record| rejects.check(record)) {
                None => break,
                Some(Ok(None)) => {}
                Some(Ok(Some(record))) => batch.push(record),
                Some(Err(error)) => return Some(Err(error)),
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }))
}
