//! A witness: it cosigns what continues the tree it last cosigned of a log, and remembers that before it says so.
//!
//! Not the HTTP server (`http::witness`) and not a client. It knows no log but those of its list and nothing of their
//! entries: it vouches that a log was shown to it as one growing tree, at a time.
//! Spec: c2sp.org/tlog-witness, add-checkpoint; c2sp.org/tlog-cosignature, Ed25519.

mod state;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::core::finding::Refused;
use crate::core::note::{Cosigner, Note};
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::core::witness::{Log, LogList, Objection, Submission, Tree, TreeHead, judge};
use state::State;
pub use state::StateError;

/// How often a log may grow a day, where its item does not say: about once in nine seconds.
const REQUESTS_PER_DAY: u32 = 10_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no cosignature.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The body is no request.
    #[error("{0}")]
    Malformed(Refused),
    /// The log is not on the list.
    #[error("this witness does not know the log {origin:?}")]
    UnknownLog {
        /// The first line of the checkpoint.
        origin: String,
    },
    /// No line of the note is the signature of a key of this log.
    #[error("no signature of a key this witness has for {origin:?}")]
    NotSigned {
        /// The log.
        origin: String,
    },
    /// The log has grown as often as it may.
    #[error("{origin:?} has shown as many checkpoints as it may; try again in {seconds} s")]
    TooOften {
        /// The log.
        origin: String,
        /// When it may show the next.
        seconds: u64,
    },
    /// The checkpoint does not continue what was cosigned.
    #[error("{0}")]
    Objection(#[from] Objection),
    /// The witness is unsure of its own state and answers nothing more.
    #[error(transparent)]
    Halted(#[from] StateError),
    /// The same, after the request that met it.
    #[error("the witness halted")]
    HaltedBefore,
}

/// A log of the list, with what is left of its requests.
struct Known {
    log: Log,
    budget: DefaultDirectRateLimiter,
}

/// A witness that is at work.
pub struct Witness {
    key: Cosigner,
    logs: RwLock<Arc<BTreeMap<String, Known>>>,
    /// One request at a time is judged, stored and signed for: two of one log cannot pass each other.
    state: Mutex<State>,
    /// Set by the first failure of the state and never cleared: a failed sync leaves nothing to rely on.
    is_halted: AtomicBool,
}

impl Witness {
    /// Makes the state of a new witness.
    ///
    /// # Errors
    /// `Exists`, and where the file cannot be made.
    pub fn create(state: &Path, key: &Cosigner) -> Result<(), StateError> {
        State::create(state, key.vkey())
    }

    /// Opens the state that `create` made for this key.
    ///
    /// # Errors
    /// Where the state is missing, in use, another witness's or not what was written.
    pub fn open(state: &Path, key: Cosigner, logs: &LogList) -> Result<Witness, StateError> {
        let state = State::open(state, key.vkey())?;
        let logs = RwLock::new(Arc::new(known(logs)));
        Ok(Witness { key, logs, state: Mutex::new(state), is_halted: AtomicBool::new(false) })
    }

    /// Puts another list in the place of the one in use. What was cosigned of logs that leave it stays known.
    pub fn set_logs(&self, logs: &LogList) {
        *self.logs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known(logs));
    }

    /// Whether the state failed; nothing is cosigned until the next start.
    pub fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::SeqCst)
    }

    /// Answers the body of an add-checkpoint request with a cosignature line of `now`. The new checkpoint is durable
    /// when this returns. Blocks for a sync of the disk.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was stored unless it is `Halted`.
    pub fn add_checkpoint(&self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let not_text = |_| Refusal::Malformed(Refused::non_canonical("add-checkpoint: not UTF-8"));
        let request = Submission::parse(std::str::from_utf8(body).map_err(not_text)?).map_err(Refusal::Malformed)?;
        let note = Note::parse(request.checkpoint).map_err(Refusal::Malformed)?;
        let head = TreeHead::parse(note.text).map_err(Refusal::Malformed)?;
        let origin = || head.origin.to_owned();
        let logs = Arc::clone(&self.logs.read().unwrap_or_else(PoisonError::into_inner));
        let known = logs.get(head.origin).ok_or_else(|| Refusal::UnknownLog { origin: origin() })?;
        let signature = known.log.signature_of(&note).ok_or_else(|| Refusal::NotSigned { origin: origin() })?;
        // Of the note only what was verified is kept: a line that names this witness and is none would be taken for damage.
        let signed = format!("{}\n{signature}\n", note.text);
        let new = Tree { size: head.size, root: head.root };
        let mut state = self.state()?;
        let last = self.or_halt(state.last(head.origin))?;
        if let Err(objection) = judge(last, request.old, &request.proof, new) {
            if let Objection::OtherRoot { known, cosigned, found } = objection {
                tracing::error!(origin = head.origin, size = known.0, %cosigned, %found, "the log forked; both notes are kept");
                self.or_halt(state.keep_fork(head.origin, &signed))?;
            }
            return Err(objection.into());
        }
        let line = self.key.cosign(note.text, now);
        if new != last {
            // Growth alone is counted: anyone can show a log's published checkpoint again, nobody can make it grow.
            known.may_grow(head.origin)?;
            self.or_halt(state.put(head.origin, last, new, &(signed + &line)))?;
        }
        Ok(line)
    }

    /// The last size cosigned of a log of the list.
    ///
    /// # Errors
    /// `Halted`.
    pub fn sizes(&self) -> Result<Vec<(String, Size)>, Refusal> {
        let logs = Arc::clone(&self.logs.read().unwrap_or_else(PoisonError::into_inner));
        let state = self.state()?;
        logs.keys().map(|origin| Ok((origin.clone(), self.or_halt(state.last(origin))?.size))).collect()
    }

    /// A panic while the state is held leaves what SQLite rolls back, so the lock that it poisoned still guards a sound one.
    fn state(&self) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_halted() { Err(Refusal::HaltedBefore) } else { Ok(state) }
    }

    fn or_halt<T>(&self, result: Result<T, StateError>) -> Result<T, Refusal> {
        result.map_err(|error| {
            self.is_halted.store(true, Ordering::SeqCst);
            Refusal::Halted(error)
        })
    }
}

fn known(logs: &LogList) -> BTreeMap<String, Known> {
    logs.iter().map(|(origin, log)| (origin.to_owned(), Known::new(log))).collect()
}

impl Known {
    fn new(log: &Log) -> Known {
        let a_day = log.requests_per_day.and_then(NonZeroU32::new);
        let a_day = a_day.or(NonZeroU32::new(REQUESTS_PER_DAY)).unwrap_or(NonZeroU32::MIN);
        // A whole day's share may come at once, and comes back evenly. A day of 2^31 - 1 still leaves 40 us each.
        let quota = Quota::with_period(DAY / a_day.get()).unwrap_or(Quota::per_hour(a_day)).allow_burst(a_day);
        Known { log: log.clone(), budget: RateLimiter::direct(quota) }
    }

    fn may_grow(&self, origin: &str) -> Result<(), Refusal> {
        use governor::clock::{Clock as _, DefaultClock};
        self.budget.check().map_err(|not_until| {
            let seconds = not_until.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
            Refusal::TooOften { origin: origin.to_owned(), seconds }
        })
    }
}
