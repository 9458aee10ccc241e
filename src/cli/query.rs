//! `query`: a registry's answer to a question, streamed.

use std::ops::ControlFlow;

use serde_json::{Map, Value as Json, json};

use super::args::{self, Format, Global};
use super::output::Output;
use super::{Failure, load_config, open};
use crate::config::Config;
use crate::core::rows::Value;
use crate::registry::{Query, Registrar, RegistryError};
use crate::sidecar::SidecarError;

pub(super) fn run(global: &Global, query: &args::Query, output: &Output) -> Result<u8, Failure> {
    let Some(name) = &query.name else { return list(output) };
    let question = Query::named(name).map_err(failure)?;
    let config = load_config(global)?;
    let runtime = super::runtime()?;
    let registrar = registrar(&config, query.registry.as_deref(), runtime.handle())?;
    let pairs = query.params.iter().map(|param| {
        param.split_once('=').ok_or_else(|| Failure::usage(format!("--param {param}: of the form name=value")))
    });
    let filters = question.filters(pairs.collect::<Result<Vec<_>, _>>()?).map_err(failure)?;
    let format = if output.is_json() { Format::Json } else { query.format };
    let names: Vec<&str> = question.columns.iter().map(|(name, _)| *name).collect();
    let mut printer = Printer { format, names, rows: Vec::new(), failed: None, output };
    printer.head();
    let asked = registrar.query(&question, &filters, query.limit, &mut |row| printer.row(row));
    asked.map_err(failure)?;
    printer.end()?;
    Ok(0)
}

pub(super) fn failure(error: RegistryError) -> Failure {
    match error {
        RegistryError::Usage { .. } => Failure::usage(error.to_string()).hint("`pinfold query` lists the questions"),
        error => {
            let mut failure = Failure::from(SidecarError::from(error));
            // Asking is no doubt about our own state.
            failure.exit = 3;
            failure
        }
    }
}

fn list(output: &Output) -> Result<u8, Failure> {
    for query in Query::all() {
        if output.is_json() {
            let columns: Vec<&str> = query.columns.iter().map(|(name, _)| *name).collect();
            output.json_line(&json!({ "name": query.name, "about": query.about, "columns": columns }))?;
        } else {
            output.line(&format!("{:<20} {}", query.name, query.about))?;
        }
    }
    Ok(0)
}

/// The registry named, or the first.
fn registrar(
    config: &Config,
    name: Option<&str>,
    runtime: &tokio::runtime::Handle,
) -> Result<std::sync::Arc<dyn Registrar>, Failure> {
    let found = match name {
        Some(name) => config.registry.get_key_value(name),
        None => config.registry.iter().next(),
    };
    let (name, registry) = found.ok_or_else(|| {
        let known: Vec<&str> = config.registry.keys().map(String::as_str).collect();
        Failure::usage("no such registry").hint(format!("the configuration has: {}", known.join(", ")))
    })?;
    if let crate::config::Registry::Sqlite(sqlite) = registry {
        let opened = crate::registry::sqlite::Sqlite::open_read(name, &sqlite.path);
        return Ok(std::sync::Arc::new(opened.map_err(failure)?));
    }
    open::registrar(name, registry, runtime)
}

struct Printer<'a> {
    format: Format,
    names: Vec<&'a str>,
    rows: Vec<Vec<String>>,
    failed: Option<Failure>,
    output: &'a Output,
}

impl Printer<'_> {
    fn head(&mut self) {
        if self.format == Format::Csv {
            self.failed = self.output.line(&self.names.join(",")).err();
        }
    }

    fn row(&mut self, row: &[Value]) -> ControlFlow<()> {
        let printed = match self.format {
            Format::Json => self.output.json_line(&object(&self.names, row)),
            Format::Csv => {
                self.output.line(&row.iter().map(|cell| csv(&cell.to_string())).collect::<Vec<_>>().join(","))
            }
            Format::Table => {
                self.rows.push(row.iter().map(ToString::to_string).collect());
                Ok(())
            }
        };
        self.failed = self.failed.take().or(printed.err());
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn end(self) -> Result<(), Failure> {
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        if self.format != Format::Table {
            return Ok(());
        }
        let head = self.names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let widths: Vec<usize> = (0..head.len())
            .map(|at| self.rows.iter().chain([&head]).filter_map(|row| row.get(at)).map(String::len).max().unwrap_or(0))
            .collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.output.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn object(names: &[&str], row: &[Value]) -> Json {
    let cell = |value: &Value| match value {
        Value::Null => Json::Null,
        Value::Int(number) => json!(number),
        Value::Text(text) => json!(&**text),
        Value::Time(at) => json!(at.to_string()),
    };
    Json::Object(names.iter().zip(row).map(|(name, value)| ((*name).to_owned(), cell(value))).collect::<Map<_, _>>())
}

/// Quoted where RFC 4180 asks for it.
fn csv(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
