//! `config check`, `config show`, `config schema`.

use super::args::{self, Global};
use super::output::Output;
use super::{Failure, load_config};
use crate::config::Config;

pub(super) fn run(global: &Global, command: &args::Config, output: &Output) -> Result<u8, Failure> {
    match command {
        args::Config::Check { offline } => check(global, *offline, output),
        args::Config::Show => {
            let config = load_config(global)?;
            output.object(&config, || toml::to_string(&config).unwrap_or_default())
        }
        args::Config::Schema => {
            let schema = schemars::schema_for!(Config);
            let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
            if output.is_json() { output.json_line(&schema).map(|()| 0) } else { output.line(&text).map(|()| 0) }
        }
    }
}

fn check(global: &Global, _offline: bool, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let counts = [config.source.len(), config.pin.len(), config.registry.len()];
    let [sources, pins, registries] = counts;
    output.object(
        &serde_json::json!({ "ok": true, "origin": config.log.origin, "sources": sources, "pins": pins, "registries": registries }),
        || format!("{}: sound ({sources} sources, {pins} pin targets, {registries} registries)", config.log.origin),
    )
}
