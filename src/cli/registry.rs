//! `registry`: tables made, or their DDL given to whoever may make them; rows written anew from the archive.

use serde_json::{Map, Value, json};

use super::args::{Global, Registry};
use super::control::{Request, ask};
use super::output::Output;
use super::query::failure;
use super::{Failure, confirm, load_config, logging, open};
use crate::config::{self, Config, Ddl};
use crate::registry::{RegistryError, snowflake};

pub(super) fn run(global: &Global, command: &Registry, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    logging::begin_quietly(global, output.paints_stderr());
    match command {
        Registry::Init { name } => init(&config, &names(&config, name.as_deref())?, output),
        Registry::Rebuild { name } => rebuild(global, &config, names(&config, name.as_deref())?, output),
    }
}

/// The registry named, or all.
fn names(config: &Config, name: Option<&str>) -> Result<Vec<String>, Failure> {
    let wanted = config.registry.keys().filter(|known| name.is_none_or(|name| name == *known));
    let names: Vec<String> = wanted.cloned().collect();
    if names.is_empty() {
        let known: Vec<&str> = config.registry.keys().map(String::as_str).collect();
        return Err(Failure::usage("no such registry").hint(format!("the configuration has: {}", known.join(", "))));
    }
    Ok(names)
}

/// Makes what is missing. Where an operator applies the DDL it is printed instead, until it is there.
fn init(config: &Config, names: &[String], output: &Output) -> Result<u8, Failure> {
    let runtime = super::runtime()?;
    let (mut made, mut to_apply) = (Vec::new(), Map::new());
    for (name, registry) in config.registry.iter().filter(|(name, _)| names.contains(name)) {
        let is_manual = matches!(registry, config::Registry::Snowflake(hub) if hub.ddl == Ddl::Manual);
        match open::registrar(name, registry, runtime.handle())?.init() {
            Ok(()) => made.push(name.clone()),
            Err(RegistryError::Schema { found, .. }) if is_manual && found == "none" => {
                to_apply.insert(name.clone(), Value::from(snowflake::ddl()));
            }
            Err(error) => return Err(failure(error)),
        }
    }
    output.object(&json!({ "initialised": made, "to_apply": to_apply }), || {
        let ddl = to_apply.iter().map(|(name, ddl)| {
            format!("-- registry {name}: to be applied by a role that may\n{}", ddl.as_str().unwrap_or_default())
        });
        let there = (!made.is_empty()).then(|| format!("-- tables and views are there: {}", made.join(", ")));
        ddl.chain(there).collect::<Vec<_>>().join("\n")
    })
}

fn rebuild(global: &Global, config: &Config, names: Vec<String>, output: &Output) -> Result<u8, Failure> {
    confirm::destroy(global, &format!("drop this log's rows and write them anew in {}", names.join(", ")))?;
    let shown = names.join(", ");
    let answer = ask(config, &Request::RebuildRegistry { names }, global.timeout)?;
    output.object(&answer, || format!("rows written anew: {shown}"))
}
