//! A Kubo node, by its RPC. The only place that names the IPFS client.
//!
//! Plain calls with a time-out and a bound on what is read; what a pin means is in `kubo/pin.rs`. The client is
//! `ipfs-api-backend-hyper` with requests of our own, because it knows no `dag/import`. It has no TLS and opens a TCP
//! connection per call. Spec: Kubo RPC, measured with 0.43.0.
//!
//! Known weakness: the client reads the body of an *error* answer whole, so a hostile node can grow our memory until the
//! call's time-out. What we accept with status 200 is bounded.

mod answer;
pub mod doctor;
mod mark;
mod pin;
mod read;
pub mod seals;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::StreamExt;
use ipfs_api_backend_hyper::{Error as ClientError, Form, IpfsClient, TryFromUri};
use ipfs_api_prelude::{ApiRequest, Backend};
use serde::Serialize;

use super::{CarFile, Contents, Network, PinError};
use crate::core::cid::Cid;

/// A target of kind `kubo`.
#[derive(Clone)]
pub struct Kubo {
    settings: Settings,
    client: IpfsClient,
}

/// What `[pin.NAME]` says about a node.
#[derive(Clone)]
pub struct Settings {
    /// The name in the configuration.
    pub name: String,
    /// `http://host:port` of the RPC, not of the gateway.
    pub url: String,
    /// User and password of `API.Authorizations`, if the node asks for them.
    pub credentials: Option<(String, String)>,
    /// Which CARs belong here.
    pub contents: Contents,
    /// Who can read what is pinned here.
    pub network: Network,
    /// How long a call may take before its bytes are counted. 30 s if in doubt.
    pub call_time: Duration,
    /// The slowest rate that still counts as alive; large calls get this much more time. 1 MiB/s if in doubt.
    pub bytes_per_second_min: u64,
    /// How many blocks are asked for at once. 16 if in doubt.
    pub calls_at_once: usize,
}

impl Settings {
    /// A private node at `url` with the usual limits.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Settings {
        Settings {
            name: name.into(),
            url: url.into(),
            credentials: None,
            contents: Contents::ProofAndPayload,
            network: Network::Private,
            call_time: Duration::from_secs(30),
            bytes_per_second_min: 1 << 20,
            calls_at_once: 16,
        }
    }
}

/// A url the node cannot be asked at.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadUrl {
    /// TLS is asked for.
    #[error("`{url}`: the IPFS client speaks no TLS")]
    Tls {
        /// The url.
        url: String,
    },
    /// Not `http://host:port`.
    #[error("`{url}`: not of the form http://host:port")]
    Form {
        /// The url.
        url: String,
    },
}

impl BadUrl {
    /// The next thing for a person to do.
    pub fn hint(&self) -> &'static str {
        match self {
            BadUrl::Tls { .. } => {
                "run a proxy that ends TLS beside pinfold (stunnel, ghostunnel, a mesh sidecar), url = \"http://127.0.0.1:PORT\""
            }
            BadUrl::Form { .. } => {
                "take the address the node prints as `RPC API server`, without a path, user or query"
            }
        }
    }
}

impl Kubo {
    /// The target `[pin.NAME]`. Nothing is asked yet.
    ///
    /// # Errors
    /// The url is not one this client can reach; the configuration check reports it.
    pub fn new(settings: Settings) -> Result<Kubo, BadUrl> {
        let base = base(&settings.url)?;
        // Parsed above: the client's own parser panics on a url without a scheme.
        let client = IpfsClient::from_str(base).map_err(|_| BadUrl::Form { url: settings.url.clone() })?;
        let client = match &settings.credentials {
            Some((user, password)) => client.with_credentials(user, password),
            None => client,
        };
        Ok(Kubo { settings, client })
    }

    /// How long a call over so many bytes may take.
    fn time_for(&self, bytes: u64) -> Duration {
        self.settings.call_time + Duration::from_secs(bytes / self.settings.bytes_per_second_min.max(1))
    }

    /// Makes one call and reads at most `bytes_max` of the answer.
    async fn call<Request: ApiRequest + Copy>(
        &self,
        request: Request,
        form: Option<Form<'static>>,
        time: Duration,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Failure> {
        let answer = tokio::time::timeout(time, self.ask(request, form, bytes_max));
        answer.await.unwrap_or(Err(Failure::TimedOut(time)))
    }

    async fn ask<Request: ApiRequest + Copy>(
        &self,
        request: Request,
        form: Option<Form<'static>>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Failure> {
        let http = self.client.build_base_request(request, form).map_err(Failure::from_client)?;
        let mut chunks = self.client.request_stream_bytes(http);
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) if body.len() + chunk.len() > bytes_max => return Err(Failure::TooLong(bytes_max)),
                Ok(chunk) => body.extend_from_slice(&chunk),
                // The client keeps the status of an error to itself. What is not Kubo's JSON comes from its door
                // keeper or from a proxy: ask once more, without the form, for the status alone.
                Err(ClientError::IpfsClientError(ipfs_api_prelude::Error::UnrecognizedApiError(text))) => {
                    let (status, _) = self.client.request_raw(request, None).await.map_err(Failure::from_client)?;
                    return Err(Failure::Status { status: status.as_u16(), text: shorten(&text) });
                }
                Err(error) => return Err(Failure::from_client(error)),
            }
        }
        Ok(body)
    }

    /// Streams a CAR file in. The file is read as the connection takes it, never whole.
    async fn dag_import(&self, car: &CarFile, file: std::fs::File) -> Result<Vec<u8>, Failure> {
        let mut form = Form::default();
        form.add_reader_file("file", std::io::BufReader::with_capacity(1 << 18, file), car.name());
        let request = DagImport { pin_roots: true, stats: true, silent: false, allow_big_block: false, offline: true };
        self.call(request, Some(form), self.time_for(car.bytes), ANSWER_BYTES_MAX).await
    }

    async fn block_get(&self, cid: Cid, reach: Reach) -> Result<Vec<u8>, Failure> {
        let request = BlockGet { arg: CidArg(cid), offline: reach == Reach::Node };
        self.call(request, None, self.settings.call_time, crate::core::car::BLOCK_BYTES_MAX).await
    }

    async fn block_rm(&self, cid: Cid) -> Result<Vec<u8>, Failure> {
        let request = BlockRm { arg: CidArg(cid), force: true };
        self.call(request, None, self.settings.call_time, ANSWER_BYTES_MAX).await
    }

    async fn pin_ls(&self, root: Cid) -> Result<Vec<u8>, Failure> {
        let request = PinLs { arg: CidArg(root), kind: "recursive" };
        self.call(request, None, self.settings.call_time, ANSWER_BYTES_MAX).await
    }

    async fn pin_rm(&self, root: Cid) -> Result<Vec<u8>, Failure> {
        let request = PinRm { arg: CidArg(root), recursive: true };
        self.call(request, None, self.settings.call_time, ANSWER_BYTES_MAX).await
    }

    async fn config_show(&self) -> Result<Vec<u8>, Failure> {
        self.call(ConfigShow {}, None, self.settings.call_time, ANSWER_BYTES_MAX).await
    }

    /// What a failed call means for the target.
    fn error(&self, doing: impl Into<String>, failure: Failure) -> PinError {
        let (target, doing, why) = (self.settings.name.clone(), doing.into(), failure.to_string());
        let url = &self.settings.url;
        match failure {
            Failure::Status { status: 401 | 403, .. } => {
                let hint =
                    format!("check user and password_file of [pin.{target}] against API.Authorizations of the node");
                PinError::Refused { target, doing, why, hint }
            }
            Failure::Status { status: 400..=499, .. } => {
                let hint = format!("is {url} the RPC of a Kubo node, and not its gateway?");
                PinError::Refused { target, doing, why, hint }
            }
            Failure::TimedOut(_) => {
                let hint = format!("is the node at {url} overloaded, or its disk full? pinning goes on by itself");
                PinError::Retry { target, doing, why, hint }
            }
            _ => {
                let hint = format!("is the node at {url} up (`ipfs id`)? pinning goes on by itself");
                PinError::Retry { target, doing, why, hint }
            }
        }
    }
}

/// Where a block may come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The node's own store: what it holds itself.
    Node,
    /// Also the peers the node is connected to.
    Network,
}

/// Answers that carry no block are shorter than this; the longest is the node's configuration.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why a call gave nothing we can use.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Connection(String),
    /// Kubo's own error, with status 500.
    #[error("{0}")]
    Node(String),
    #[error("HTTP status {status}: {text}")]
    Status { status: u16, text: String },
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
}

impl Failure {
    fn from_client(error: ClientError) -> Failure {
        match error {
            ClientError::Api(error) => Failure::Node(shorten(&error.message)),
            error => Failure::Connection(shorten(&error.to_string())),
        }
    }
}

/// Text of others, short enough for one line.
fn shorten(text: &str) -> String {
    text.trim().chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn base(url: &str) -> Result<&str, BadUrl> {
    let bad = || BadUrl::Form { url: url.to_owned() };
    if url.starts_with("https://") {
        return Err(BadUrl::Tls { url: url.to_owned() });
    }
    let base = url.strip_suffix('/').unwrap_or(url);
    let authority = base.strip_prefix("http://").ok_or_else(bad)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let has_port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => true,
    };
    let is_address = !authority.is_empty() && authority.chars().all(is_plain) && has_port;
    if is_address { Ok(base) } else { Err(bad()) }
}

/// Declares a request: its path and its query.
macro_rules! request {
    ($path:literal, $name:ident { $($(#[$meta:meta])? $field:ident: $type:ty),* }) => {
        #[derive(Clone, Copy, Serialize)]
        #[serde(rename_all = "kebab-case")]
        struct $name { $($(#[$meta])? $field: $type),* }

        impl ApiRequest for $name {
            const PATH: &'static str = $path;
        }
    };
}

request!("/dag/import", DagImport { pin_roots: bool, stats: bool, silent: bool, allow_big_block: bool, offline: bool });
request!("/block/get", BlockGet { arg: CidArg, offline: bool });
request!("/block/put", BlockPut { cid_codec: &'static str, mhtype: &'static str, pin: bool });
request!("/block/rm", BlockRm { arg: CidArg, force: bool });
request!("/pin/ls", PinLs { arg: CidArg, #[serde(rename = "type")] kind: &'static str });
request!("/pin/rm", PinRm { arg: CidArg, recursive: bool });
request!("/config/show", ConfigShow {});

/// A CID as a query value.
#[derive(Clone, Copy)]
struct CidArg(Cid);

impl Serialize for CidArg {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
