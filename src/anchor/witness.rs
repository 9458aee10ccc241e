//! A witness, asked over HTTP: it saw no other history of this log, and signs that.
//!
//! One call of the port is one submission, with at most two more when the witness answers with the size it holds. Every
//! answer is bounded in time and bytes, and no redirect is followed: a policy names who is asked.
//! Spec: c2sp.org/tlog-witness v1, `add-checkpoint`.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};

use super::http::{self, bounded, is_passing, reason};
use super::{AnchorError, AnchorKind, Answer, Authority, Released, Said, Unproven};
use crate::core::checkpoint::Head;
use crate::core::hash::Hash;
use crate::core::note::WitnessVkey;
use crate::core::seq::Size;
use crate::core::witness::{ANSWER_BYTES_MAX, SIZE_CONTENT_TYPE, Submission, open_answer, open_size};

/// Submissions of one call, at most: with the size we remember, with the one it answers, and once more if another
/// sender moved it in between.
const TRIES_MAX: u32 = 3;
/// Bytes of a refusal that are shown to people.
const REASON_BYTES_MAX: usize = 200;

/// A witness of a policy.
#[derive(Clone)]
pub struct Witness {
    name: String,
    vkey: WitnessVkey,
    /// The submission prefix, without a slash at the end.
    url: String,
    http: reqwest::Client,
    /// The size it last told us or signed, a hint that saves a request: it is never trusted.
    known: Arc<AtomicU64>,
}

/// A witness that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadWitness {
    /// Not an address of the web.
    #[error("`{url}`: not of the form http(s)://host/prefix")]
    Url {
        /// The address.
        url: String,
    },
    /// No client could be made.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// What a witness holds of a log, from its answer to a checkpoint with that checkpoint's own size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holds {
    /// This very checkpoint is the newest it saw; its fresh cosignature lines.
    This(String),
    /// Another size. The answer is not signed.
    Size(Size),
    /// This size with another root. The answer is not signed.
    OtherRoot,
}

/// An answer that says something.
enum Reply {
    Cosigned(String),
    /// 409 with the size it holds.
    Holds(Size),
    /// 422: the proof does not lead from the tree it holds.
    NoProof,
}

impl Witness {
    /// The witness of this key at its submission prefix; no submission takes longer than `timeout`.
    ///
    /// # Errors
    /// The address is none, or the system gives no client.
    pub fn new(vkey: WitnessVkey, url: &str, timeout: Duration) -> Result<Witness, BadWitness> {
        if http::address(url).is_none() {
            return Err(BadWitness::Url { url: url.to_owned() });
        }
        let http = http::client(timeout)?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Witness { name: lane_name(&vkey), vkey, url, http, known: Arc::default() })
    }

    /// Its key.
    pub fn vkey(&self) -> &WitnessVkey {
        &self.vkey
    }

    /// What it holds of the log of `note`, a signed checkpoint of `head`, without ever moving it: a submission with
    /// the checkpoint's own size and no proof is answered with a fresh cosignature or with the size it holds.
    ///
    /// # Errors
    /// `Retry`, `Refused` or `Untrue`.
    pub async fn holds(&self, head: &Head, note: &str) -> Result<Holds, AnchorError> {
        let submission = Submission { old: head.size, proof: Vec::new(), checkpoint: note };
        match self.post(head, &submission).await? {
            Reply::Cosigned(lines) => Ok(Holds::This(lines)),
            Reply::Holds(size) if size == head.size => Ok(Holds::OtherRoot),
            Reply::Holds(size) => Ok(Holds::Size(size)),
            Reply::NoProof => Err(self.untrue(head, "422 to a checkpoint that needs no proof")),
        }
    }

    async fn submit(&self, released: &Released) -> Result<Said, AnchorError> {
        let head = &released.head;
        let mut old = Size(self.known.load(Ordering::Relaxed)).min(head.size);
        for _ in 0..TRIES_MAX {
            let proof = self.proof(released, old).await?;
            let submission = Submission { old, proof, checkpoint: &released.note };
            match self.post(head, &submission).await? {
                Reply::Cosigned(lines) => {
                    self.known.store(head.size.0, Ordering::Relaxed);
                    return Ok(Said::Cosigned(lines));
                }
                Reply::Holds(size) if size > head.size => return Ok(Said::Ahead(size)),
                Reply::Holds(size) if size == old && old == head.size => return Err(self.forked(head, size)),
                Reply::Holds(size) if size == old => {
                    return Err(self.untrue(head, &format!("409 with size {size}, which is what it was given")));
                }
                Reply::Holds(size) => old = size,
                Reply::NoProof if old.0 == 0 || old == head.size => {
                    return Err(self.untrue(head, "422 to a checkpoint that needs no proof"));
                }
                // Our proof holds between our own roots, so its root at that size is another one.
                Reply::NoProof => return Err(self.forked(head, old)),
            }
        }
        Err(self.retry(head, "the size it holds changed with every answer".to_owned()))
    }

    async fn proof(&self, released: &Released, old: Size) -> Result<Vec<Hash>, AnchorError> {
        if old.0 == 0 || old == released.head.size {
            return Ok(Vec::new());
        }
        let consistency = Arc::clone(&released.consistency);
        let proof = tokio::task::spawn_blocking(move || consistency(old)).await;
        match proof {
            Ok(Ok(proof)) => Ok(proof),
            Ok(Err(Unproven::NotOurs(size))) => {
                Err(AnchorError::Foreign { authority: self.name.clone(), origin: released.head.origin.clone(), size })
            }
            Ok(Err(error @ Unproven::Io(_))) => Err(self.retry(&released.head, error.to_string())),
            Err(error) => Err(self.retry(&released.head, error.to_string())),
        }
    }

    async fn post(&self, head: &Head, submission: &Submission<'_>) -> Result<Reply, AnchorError> {
        let request = self.http.post(format!("{}/add-checkpoint", self.url)).body(submission.to_text());
        let response = request.send().await.map_err(|error| self.retry(head, reason(&error)))?;
        let status = response.status();
        let is_size =
            response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == SIZE_CONTENT_TYPE.as_bytes());
        let body = text(response).await.map_err(|why| self.retry(head, format!("{status}: {why}")))?;
        match status {
            StatusCode::OK => {
                let lines = open_answer(submission.checkpoint, &body, &self.vkey);
                lines.map(Reply::Cosigned).map_err(|refused| self.untrue(head, &refused.to_string()))
            }
            StatusCode::CONFLICT if is_size => {
                let size = open_size(&body).map_err(|refused| self.untrue(head, &refused.to_string()))?;
                Ok(Reply::Holds(size))
            }
            // The specification asks for the size with another size only, so a second root at ours may come without.
            StatusCode::CONFLICT if submission.old == head.size => Ok(Reply::Holds(head.size)),
            StatusCode::CONFLICT => Err(self.untrue(head, "409 without the size it holds")),
            StatusCode::UNPROCESSABLE_ENTITY => Ok(Reply::NoProof),
            status => Err(self.refusal(head, status, &body)),
        }
    }

    /// An answer that is no yes: later, or never without a person.
    fn refusal(&self, head: &Head, status: StatusCode, body: &str) -> AnchorError {
        let why = format!("{status}: {}", shown(body));
        let hint = match status {
            StatusCode::NOT_FOUND => format!("ask its operator to add the log {}, or correct its url", head.origin),
            StatusCode::FORBIDDEN => "give its operator the log's vkey (keys/log.vkey)".to_owned(),
            status if status.is_redirection() => "put the address it redirects to into the policy".to_owned(),
            status if is_passing(status) => return self.retry(head, why),
            _ => "is this the submission prefix of a witness (c2sp.org/tlog-witness)?".to_owned(),
        };
        AnchorError::Refused { authority: self.name.clone(), doing: doing(head), why, hint }
    }

    fn retry(&self, head: &Head, why: String) -> AnchorError {
        let hint = format!("it is tried again; is {} reachable from here?", self.url);
        AnchorError::Retry { authority: self.name.clone(), doing: doing(head), why, hint }
    }

    fn untrue(&self, head: &Head, fault: &str) -> AnchorError {
        let hint = "compare the vkey in the policy with the one its operator publishes".to_owned();
        AnchorError::Untrue { authority: self.name.clone(), doing: doing(head), fault: fault.to_owned(), hint }
    }

    fn forked(&self, head: &Head, size: Size) -> AnchorError {
        AnchorError::Forked { authority: self.name.clone(), origin: head.origin.clone(), size }
    }
}

impl Authority for Witness {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> AnchorKind {
        AnchorKind::Witness
    }

    fn attest<'a>(&'a self, released: &'a Released) -> Answer<'a, Said> {
        Box::pin(self.submit(released))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("vkey", &self.vkey).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Name and id: two keys of one witness are two authorities.
fn lane_name(vkey: &WitnessVkey) -> String {
    vkey.to_string().rsplit_once('+').map(|(name, _)| name.to_owned()).unwrap_or_default()
}

fn doing(head: &Head) -> String {
    format!("witnessing size {}", head.size)
}

/// An answer as text.
async fn text(response: Response) -> Result<String, String> {
    let bytes = bounded(response, ANSWER_BYTES_MAX).await?;
    String::from_utf8(bytes).map_err(|_| "an answer that is not UTF-8".to_owned())
}

/// The first line of a stranger's text, short and without what a terminal would obey.
fn shown(body: &str) -> String {
    let line = body.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(REASON_BYTES_MAX).collect()
}
