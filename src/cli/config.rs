//! `config check`, `config show`, `config schema`.

pub(super) mod show;

use serde_json::json;

use super::args::{self, Global};
use super::doctor::{self, Remark};
use super::output::Output;
use super::{Failure, load_traced};
use crate::config::{Config, Loaded};

pub(super) fn run(global: &Global, command: &args::Config, output: &Output) -> Result<u8, Failure> {
    match command {
        args::Config::Check { offline } => check(global, *offline, output),
        args::Config::Show => {
            let loaded = load_traced(global)?;
            output.object(&show::json(&loaded), || show::text(&loaded))
        }
        args::Config::Schema => {
            let schema = schemars::schema_for!(Config);
            let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
            if output.is_json() { output.json_line(&schema).map(|()| 0) } else { output.line(&text).map(|()| 0) }
        }
    }
}

/// Exit 0 where it is sound and, unless `offline`, everyone it names answers; 2 where it is not; 3 where one is not
/// reached.
fn check(global: &Global, offline: bool, output: &Output) -> Result<u8, Failure> {
    let loaded = load_traced(global)?;
    doctor::options(&loaded.config)?;
    let asked = if offline { Vec::new() } else { doctor::outside(&loaded.config, global.timeout)? };
    let exit = match doctor::worst(&asked) {
        doctor::Status::Ok | doctor::Status::Warn => 0,
        doctor::Status::Fail => 2,
        doctor::Status::Unreachable => 3,
    };
    output.object(&answer(&loaded, &asked, exit), || {
        let mut lines: Vec<String> = asked.iter().map(|remark| doctor::line(remark, *output)).collect();
        lines.push(sentence(&loaded, exit));
        lines.join("\n")
    })?;
    Ok(exit)
}

fn answer(loaded: &Loaded, asked: &[Remark], exit: u8) -> serde_json::Value {
    let config = &loaded.config;
    json!({
        "ok": exit == 0, "origin": config.log.origin, "sources": config.source.len(), "pins": config.pin.len(),
        "registries": config.registry.len(), "checks": asked,
    })
}

fn sentence(loaded: &Loaded, exit: u8) -> String {
    let Config { log, source, pin, registry, .. } = &loaded.config;
    let counts = format!("{} sources, {} pin targets, {} registries", source.len(), pin.len(), registry.len());
    let verdict = match exit {
        0 => "sound",
        3 => "sound, but not everyone it names is reached",
        _ => "not usable",
    };
    format!("{}: {}: {verdict} ({counts})", loaded.path.display(), log.origin)
}
