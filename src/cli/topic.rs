//! `topic`: the declared topics, and adopting one whose history was rewritten.

use serde_json::Value;

use super::args::{Global, Topic};
use super::control::{Request, ask};
use super::journal::plain;
use super::output::Output;
use super::{Failure, load_config};

pub(super) fn run(global: &Global, topic: &Topic, output: &Output) -> Result<u8, Failure> {
    match topic {
        Topic::List => list(global, output),
        Topic::Adopt => adopt(global, output),
    }
}

fn list(global: &Global, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let answer = ask(&config, &Request::Topics, global.timeout)?;
    for topic in answer.as_array().into_iter().flatten() {
        if output.is_json() {
            output.json_line(topic)?;
        } else {
            let get = |name: &str| topic.get(name).map(plain).unwrap_or_default();
            let (no, name, partitions) = (get("topic_no"), get("name"), get("partitions"));
            let replaced = if get("is_replaced") == "true" { "  replaced" } else { "" };
            let line =
                format!("{no}  {name}  {}  {partitions} partitions  {}{replaced}", get("source"), get("cluster"));
            output.line(&line)?;
        }
    }
    Ok(0)
}

fn adopt(global: &Global, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let answer = ask(&config, &Request::Adopt, global.timeout)?;
    let adopted = answer.get("adopted").and_then(Value::as_array).cloned().unwrap_or_default();
    if adopted.is_empty() {
        let message = "nothing to adopt: no topic was found to be another one than was archived";
        return Err(
            Failure::new(1, "nothing-to-adopt", message).hint("`pinfold status` shows the halt that stands, if any")
        );
    }
    output.object(&answer, || {
        let line = |topic: &Value| {
            let get = |name: &str| topic.get(name).map(plain).unwrap_or_default();
            format!(
                "{} is now topic {} ({}), in place of {}",
                get("name"),
                get("topic_no"),
                get("why"),
                get("replaces")
            )
        };
        adopted.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}
