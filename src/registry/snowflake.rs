//! The Snowflake registry, through its SQL API.
//!
//! Not the connector protocol, which is undocumented. There are no transactions over requests and no enforced keys, so
//! each statement is idempotent (MERGE by key), is sent under an id made from its content, and is read back; the fence
//! is a conditional MERGE, read back too. Never run against Snowflake itself: docs/registry.md says against what.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::{Map, json};
use tokio::runtime::Handle;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::client::Client;
use self::jwt::Tokens;
use super::query::Filter;
use super::sql::{self, Dialect};
use super::{Fence, Query, Receipt, Registrar, RegistryError, SCHEMA_VERSION, TABLES, fence_of, judge};
use crate::core::hash::Hash;
use crate::core::origin::Origin;
use crate::core::rows::{AnchorRow, EntryRow, Kind, LogRow, PinRow, Role, Row, SegmentRow, SegmentRows, Table, Value};
use crate::core::seq::Size;
use crate::core::time::Timestamp;

mod client;
mod jwt;
mod text;

/// SQLSTATE-like code of the service for an object that is not there, or not ours to see.
const NO_SUCH_OBJECT: &str = "002003";

/// What a Snowflake registry needs.
pub struct Options {
    /// Its name in the configuration.
    pub name: String,
    /// The account, `ORG-ACCT` or a locator.
    pub account: String,
    /// The address, if it is not that of the account.
    pub url: Option<String>,
    /// The user.
    pub user: String,
    /// The user's RSA key: PKCS#8, PEM.
    pub private_key_pem: Zeroizing<String>,
    /// The role, or empty for the user's own.
    pub role: String,
    /// The warehouse, or empty for the user's own.
    pub warehouse: String,
    /// The database.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// Whether an operator applies the DDL, so that `init` only checks.
    pub is_ddl_manual: bool,
    /// Rows of one MERGE, at most.
    pub batch_rows_max: usize,
    /// How long one answer may take before it is asked for again.
    pub answer_timeout: Duration,
}

/// A registry in Snowflake. Its calls block on the runtime they were given.
pub struct Snowflake {
    client: Client,
    is_ddl_manual: bool,
    batch_rows_max: usize,
    runtime: Handle,
}

/// The DDL an operator applies where `ddl = "manual"`.
pub fn ddl() -> String {
    let version = format!(
        "INSERT INTO schema_version SELECT {SCHEMA_VERSION}, now_at FROM v_now WHERE NOT EXISTS (SELECT 1 FROM schema_version)"
    );
    sql::ddl(Dialect::Snowflake).into_iter().chain([version]).map(|statement| statement + ";\n").collect()
}

impl Snowflake {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// `Auth` where the private key is none, `Refused` where no TLS client can be made.
    pub fn new(options: Options, runtime: Handle) -> Result<Snowflake, RegistryError> {
        let Options { name, account, url, user, private_key_pem, role, warehouse, database, schema, .. } = options;
        let doing = "reading the private key";
        let tokens = Tokens::new(&account, &user, &private_key_pem).map_err(|error| RegistryError::Auth {
            registry: name.clone(),
            doing: doing.to_owned(),
            what: error.to_string(),
        })?;
        // A redirect would carry the token elsewhere. A proxy of the environment is used, as warehouses need it.
        let http = reqwest::Client::builder()
            .timeout(options.answer_timeout)
            .connect_timeout(options.answer_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pinfold/", env!("CARGO_PKG_VERSION")))
            .build();
        let http = http.map_err(|error| RegistryError::Refused {
            registry: name.clone(),
            doing: "making the client".to_owned(),
            code: String::new(),
            what: error.to_string(),
        })?;
        let url = url.unwrap_or_else(|| format!("https://{}.snowflakecomputing.com", account.to_lowercase()));
        let context = [("database", database), ("schema", schema), ("warehouse", warehouse), ("role", role)];
        let context = context.into_iter().filter(|(_, value)| !value.is_empty());
        let context: Map<_, _> = context.map(|(key, value)| (key.to_owned(), json!(value))).collect();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Snowflake {
            client: Client { name, http, url, tokens, context },
            is_ddl_manual: options.is_ddl_manual,
            batch_rows_max: options.batch_rows_max.max(1),
            runtime,
        })
    }

    /// Writes rows: those of one key once, those that agree not again.
    async fn put<R: Row>(&self, rows: &[R], request: Uuid) -> Result<String, RegistryError> {
        let table = R::TABLE;
        let doing = format!("writing {}", table.name);
        let mut receipt = String::new();
        for rows in rows.chunks(self.batch_rows_max) {
            let cells: Vec<Vec<Value>> = rows.iter().map(R::values).collect();
            let batch = [text::bind(&cells)];
            // A second time if what was acknowledged is not there, under another id: the first may be remembered from
            // before someone emptied the table.
            for attempt in 0..2u8 {
                let id = statement_id(request, attempt, &table, &batch);
                receipt = self.client.execute(&doing, &text::merge(&table), &batch, id).await?.handle;
                if self.is_written(&table, &batch).await? {
                    break;
                }
                if attempt == 1 {
                    let (registry, what) = (self.client.name.clone(), "acknowledged, but not there".to_owned());
                    return Err(RegistryError::Retry { registry, doing, what });
                }
            }
        }
        Ok(receipt)
    }

    /// Reads a batch back. `false`: a row is missing or was not updated.
    async fn is_written(&self, table: &Table, batch: &[String]) -> Result<bool, RegistryError> {
        let doing = format!("reading back {}", table.name);
        let answer = self.client.execute(&doing, &text::check(table), batch, Uuid::new_v4()).await?;
        let Some(row) = answer.rows.first() else { return Ok(true) };
        let width = table.columns.len();
        let cells = |from: usize| {
            let cells = row.iter().skip(from).map(Option::as_deref);
            table
                .columns
                .iter()
                .zip(cells)
                .map(|(column, cell)| (column, text::read(column.kind, cell)))
                .collect::<Vec<_>>()
        };
        let (wanted, found) = (cells(0), cells(width));
        if found.iter().all(|(_, cell)| *cell == Value::Null) {
            return Ok(false);
        }
        let pairs = wanted.iter().zip(&found);
        let fixed = pairs.filter(|((column, _), _)| column.role == Role::Fixed);
        let Some(((column, expected), (_, found))) = fixed.into_iter().find(|((_, w), (_, f))| w != f) else {
            return Ok(false);
        };
        let key = wanted.iter().filter(|(column, _)| column.role == Role::Key);
        Err(RegistryError::Differs {
            registry: self.client.name.clone(),
            table: table.name,
            key: key.map(|(column, cell)| format!("{}={cell}", column.name)).collect::<Vec<_>>().join(" "),
            column: column.name,
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }

    async fn put_rest(&self, rows: &SegmentRows, request: Uuid) -> Result<(), RegistryError> {
        self.put(&rows.sources, request).await?;
        self.put(&rows.gaps, request).await?;
        self.put(&rows.contested, request).await?;
        self.put(&rows.quarantined, request).await?;
        self.put(&rows.keys, request).await?;
        self.put(&rows.pins, request).await?;
        self.put(&rows.anchors, request).await?;
        let seal = [rows.segment.seal_cid.to_string()];
        self.client.execute("finding duplicates", text::DUPLICATES, &seal, Uuid::new_v4()).await?;
        Ok(())
    }

    /// Looks for an entry of this range that another segment has: a batch would add what is missing around it, and the
    /// halves of a fork would stand mixed.
    async fn refuse_fork(&self, segment: &SegmentRow) -> Result<(), RegistryError> {
        let binds = [&*segment.origin, &segment.first_seq.to_string(), &segment.last_seq.to_string()];
        let binds = binds.into_iter().map(str::to_owned).chain([segment.seal_cid.to_string()]).collect::<Vec<_>>();
        let answer = self.client.execute("looking for a fork", text::FORK, &binds, Uuid::new_v4()).await?;
        let Some([Some(seq), Some(found)]) = answer.rows.first().map(Vec::as_slice) else { return Ok(()) };
        Err(RegistryError::Differs {
            registry: self.client.name.clone(),
            table: "entries",
            key: format!("origin={} seq={seq}", segment.origin),
            column: "seal_cid",
            expected: segment.seal_cid.to_string(),
            found: found.clone(),
        })
    }

    async fn fence(&self, origin: &Origin) -> Result<Option<Fence>, RegistryError> {
        let doing = "reading the fence";
        let answer = self.client.execute(doing, text::FENCE, &[origin.to_string()], Uuid::new_v4()).await?;
        let mut rows = answer.rows.iter().map(|row| match row.as_slice() {
            [Some(size), Some(root)] => fence_of(&self.client.name, origin, size.parse().unwrap_or(-1), root),
            _ => fence_of(&self.client.name, origin, -1, ""),
        });
        let fence = rows.next().transpose()?;
        match (fence, rows.next().transpose()?) {
            // No key is enforced here, so there can be two, which nobody of ours wrote.
            (Some(one), Some(other)) => Err(RegistryError::Differs {
                registry: self.client.name.clone(),
                table: "registration_hwm",
                key: format!("origin={origin}"),
                column: "size",
                expected: one.size.to_string(),
                found: other.size.to_string(),
            }),
            _ => Ok(fence),
        }
    }

    async fn version(&self) -> Result<String, RegistryError> {
        let select = "SELECT MAX(version) FROM schema_version";
        match self.client.execute("reading the schema version", select, &[], Uuid::new_v4()).await {
            Ok(answer) => Ok(answer.rows.into_iter().flatten().flatten().next().unwrap_or_else(|| "none".to_owned())),
            Err(RegistryError::Refused { code, .. }) if code == NO_SUCH_OBJECT => Ok("none".to_owned()),
            Err(error) => Err(error),
        }
    }

    async fn make_schema(&self) -> Result<(), RegistryError> {
        if !self.is_ddl_manual && self.version().await? == "none" {
            for statement in ddl().split_terminator(";\n") {
                self.client.execute("making the schema", statement, &[], Uuid::new_v4()).await?;
            }
        }
        self.check_schema().await
    }

    async fn check_schema(&self) -> Result<(), RegistryError> {
        let found = self.version().await?;
        if found == SCHEMA_VERSION.to_string() {
            return Ok(());
        }
        Err(RegistryError::Schema { registry: self.client.name.clone(), found })
    }
}

impl Registrar for Snowflake {
    fn name(&self) -> &str {
        &self.client.name
    }

    fn init(&self) -> Result<(), RegistryError> {
        self.runtime.block_on(self.make_schema())
    }

    fn check(&self) -> Result<(), RegistryError> {
        self.runtime.block_on(self.check_schema())
    }

    fn begin_segment(&self, segment: &SegmentRow, request: Uuid) -> Result<Receipt, RegistryError> {
        self.runtime.block_on(async {
            // First: if an entry differs, this half of the fork is still seen.
            let receipt = self.put(std::slice::from_ref(segment), request).await?;
            self.refuse_fork(segment).await?;
            Ok(Receipt { text: receipt })
        })
    }

    fn register_entries(&self, entries: &[EntryRow], request: Uuid) -> Result<(), RegistryError> {
        self.runtime.block_on(self.put(entries, request)).map(drop)
    }

    fn end_segment(&self, rows: &SegmentRows, request: Uuid) -> Result<(), RegistryError> {
        self.runtime.block_on(self.put_rest(rows, request))
    }

    fn register_pins(&self, pins: &[PinRow], request: Uuid) -> Result<(), RegistryError> {
        self.runtime.block_on(self.put(pins, request)).map(drop)
    }

    fn register_anchors(&self, anchors: &[AnchorRow], request: Uuid) -> Result<(), RegistryError> {
        self.runtime.block_on(self.put(anchors, request)).map(drop)
    }

    fn heartbeat(&self, log: &LogRow, request: Uuid) -> Result<(), RegistryError> {
        self.runtime.block_on(self.put(std::slice::from_ref(log), request)).map(drop)
    }

    fn forget(&self, origin: &Origin, _request: Uuid) -> Result<(), RegistryError> {
        // A DELETE is idempotent by itself, and one that is remembered as done would be skipped: every one has an own id.
        self.runtime.block_on(async {
            for table in TABLES {
                let (doing, statement) = (format!("dropping rows of {table}"), text::forget(table));
                self.client.execute(&doing, &statement, &[origin.to_string()], Uuid::new_v4()).await?;
            }
            Ok(())
        })
    }

    fn head(&self, origin: &Origin) -> Result<Option<Fence>, RegistryError> {
        self.runtime.block_on(self.fence(origin))
    }

    fn advance(
        &self,
        origin: &Origin,
        from: Option<Fence>,
        to: Fence,
        at: Timestamp,
        request: Uuid,
    ) -> Result<Fence, RegistryError> {
        let doing = "moving the fence";
        let (from_size, from_root) = from
            .map_or_else(|| ("-1".to_owned(), String::new()), |from| (from.size.to_string(), from.root.to_string()));
        let at = text::write(&Value::Time(at));
        let binds = [origin.to_string(), to.size.to_string(), to.root.to_string(), at, from_size, from_root];
        self.runtime.block_on(async {
            self.client.execute(doing, text::ADVANCE, &binds, request).await?;
            // The count of changed rows is not taken for it: where the fence is, is.
            match self.fence(origin).await? {
                Some(found) => judge(&self.client.name, origin, from, to, found),
                None if from.is_some() => Ok(Fence { size: Size(0), root: Hash::EMPTY_ROOT }),
                None => Err(RegistryError::Retry {
                    registry: self.client.name.clone(),
                    doing: doing.to_owned(),
                    what: "acknowledged, but not there".to_owned(),
                }),
            }
        })
    }

    fn query(
        &self,
        query: &Query,
        filters: &[Filter],
        limit: Option<u64>,
        each: &mut dyn FnMut(&[Value]) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        let kind_of = |value: &Value| match value {
            Value::Int(_) => Kind::Int,
            Value::Time(_) => Kind::Time,
            Value::Text(_) | Value::Null => Kind::Text,
        };
        let statement = query.select(filters, limit, |value| text::cast("CAST(? AS VARCHAR)", kind_of(value)));
        let binds: Vec<String> = filters.iter().map(|filter| text::write(&filter.value)).collect();
        self.runtime.block_on(async {
            let answer = self.client.execute(query.name, &statement, &binds, Uuid::new_v4()).await?;
            let mut rows = answer.rows;
            for next in 1.. {
                for row in &rows {
                    let cells = query.columns.iter().zip(row);
                    let cells: Vec<Value> = cells.map(|((_, kind), cell)| text::read(*kind, cell.as_deref())).collect();
                    if each(&cells).is_break() {
                        return Ok(());
                    }
                }
                if next >= answer.partitions {
                    break;
                }
                rows = self.client.partition(query.name, &answer.handle, next).await?;
            }
            Ok(())
        })
    }
}

/// The id of a statement, from the caller's request and what is sent: the same content again is the same request,
/// and other content never is.
fn statement_id(request: Uuid, attempt: u8, table: &Table, batch: &[String]) -> Uuid {
    let batch = batch.iter().map(|bind| bind.as_bytes());
    let attempt = [attempt];
    let what = [request.as_bytes(), &attempt[..], table.name.as_bytes()];
    let chunks: Vec<&[u8]> = what.into_iter().chain(batch).collect();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(Hash::of_all(&chunks).as_bytes()).for_each(|(to, from)| *to = *from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
