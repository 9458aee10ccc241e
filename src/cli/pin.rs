//! `pin`: pushes what is sealed to its targets; with `--audit` and `--repair` it looks at what they hold.
//!
//! Exit 1 where a target lost blocks and they were not put back.

use serde_json::Value;

use super::args::{self, Global};
use super::control::{self, Request};
use super::journal::{plain, stage};
use super::output::Output;
use super::{Failure, load_config};

pub(super) fn run(global: &Global, pin: &args::Pin, output: &Output) -> Result<u8, Failure> {
    if !pin.audit && !pin.repair {
        return stage(global, &Request::Pin, output);
    }
    let config = load_config(global)?;
    let blocks = pin.audit.then(|| pin.sample.unwrap_or(config.archive.audit_sample));
    let answer = control::ask(&config, &Request::AuditReplicas { blocks, repairs: pin.repair }, global.timeout)?;
    output.object(&answer, || text(&answer))?;
    Ok(u8::from(replicas(&answer).any(|(_, last)| number(last, "repaired_files") < number(last, "damaged_files"))))
}

fn replicas(answer: &Value) -> impl Iterator<Item = (&String, &Value)> {
    answer.get("replicas").and_then(Value::as_object).into_iter().flatten()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// One line a target.
fn text(answer: &Value) -> String {
    let line = |(name, last): (&String, &Value)| {
        let get = |name: &str| last.get(name).map(plain).unwrap_or_default();
        let mut line = format!("{name}: {} blocks read, {} lost or altered", get("sampled"), get("failed"));
        if number(last, "damaged_files") > 0 {
            line += &format!("; {} of {} files repaired", get("repaired_files"), get("damaged_files"));
        }
        if number(last, "restored_files") > 0 {
            line += &format!("; {} files of our archive restored", get("restored_files"));
        }
        line
    };
    let lines: Vec<String> = replicas(answer).map(line).collect();
    if lines.is_empty() { "no pin target is configured".to_owned() } else { lines.join("\n") }
}
