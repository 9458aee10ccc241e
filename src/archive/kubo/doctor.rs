//! What in a node's configuration does not suit an archive, and the command that changes it.
//!
//! Kubo's defaults are made for sharing: a pinned import syncs no block file, a damaged block is served as it is, and the
//! node tells the world what it has. Only named fields are read and shown; the configuration holds secrets.

use serde_json::Value;

use super::{Failure, Kubo};
use crate::archive::{Network, PinError};

/// One thing to change on a node. It takes effect when the node is restarted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advice {
    /// The setting, as Kubo names it.
    pub setting: &'static str,
    /// What it can cost to leave it.
    pub risk: &'static str,
    /// The command that changes it, for the node's own machine.
    pub command: String,
}

impl Kubo {
    /// Reads the node's configuration and says what to change; empty is good.
    ///
    /// # Errors
    /// The node is not reached, or does not let us read its configuration.
    pub async fn doctor(&self) -> Result<Vec<Advice>, PinError> {
        let doing = "read the configuration";
        let body = self.config_show().await.map_err(|failure| self.error(doing, failure))?;
        let config = serde_json::from_slice(&body)
            .map_err(|error| self.error(doing, Failure::Connection(format!("not Kubo's answer: {error}"))))?;
        Ok(advice(&config, self.settings.network))
    }
}

/// What to change in `config`, for a node whose pins are for `network`.
fn advice(config: &Value, network: Network) -> Vec<Advice> {
    let mut advice = durability(config);
    if network == Network::Private {
        advice.extend(privacy(config));
    }
    advice.extend(access(config));
    advice
}

fn durability(config: &Value) -> Vec<Advice> {
    let mut advice = Vec::new();
    if config.pointer("/Datastore/HashOnRead") != Some(&Value::Bool(true)) {
        advice.push(Advice {
            setting: "Datastore.HashOnRead",
            risk: "a block that rots on the disk is served as it is, and its pin is reported as fine",
            command: "ipfs config --json Datastore.HashOnRead true".to_owned(),
        });
    }
    let mut spec = config.pointer("/Datastore/Spec").cloned().unwrap_or_default();
    if set_sync(&mut spec) {
        advice.push(Advice {
            setting: "Datastore.Spec, sync",
            risk: "a pinned import is not synced: a power cut can lose blocks that were acknowledged",
            command: format!("ipfs config --json Datastore.Spec '{spec}'"),
        });
    }
    advice
}

/// Turns syncing on in every store of a specification, however they are nested; whether something changed.
fn set_sync(spec: &mut Value) -> bool {
    let mut changed = false;
    match spec {
        Value::Array(stores) => {
            for store in stores {
                changed |= set_sync(store);
            }
        }
        Value::Object(store) => {
            let field = match store.get("type").and_then(Value::as_str) {
                Some("flatfs") => Some("sync"),
                Some("badgerds") => Some("syncWrites"),
                _ => None,
            };
            if let Some(field) = field.filter(|field| store.get(*field) != Some(&Value::Bool(true))) {
                store.insert(field.to_owned(), Value::Bool(true));
                changed = true;
            }
            for inner in store.values_mut() {
                changed |= set_sync(inner);
            }
        }
        _ => {}
    }
    changed
}

fn privacy(config: &Value) -> Vec<Advice> {
    let mut advice = Vec::new();
    let mut push = |setting, risk, command: &str| advice.push(Advice { setting, risk, command: command.to_owned() });
    let is_full = |pointer| config.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    // Absent means "auto": the public network.
    if config.pointer("/Routing/Type").and_then(Value::as_str) != Some("none") {
        let risk = "the node announces what it holds to the public network, and looks there for what it lacks";
        push("Routing.Type", risk, "ipfs config Routing.Type none");
    }
    if is_full("/Bootstrap") {
        let risk = "the node connects to public peers when it starts";
        push("Bootstrap", risk, "ipfs bootstrap rm --all");
    }
    if listens(config, "/Addresses/Swarm") {
        let risk = "every peer that reaches the node and knows a CID can fetch the block, unless there is a swarm.key";
        push("Addresses.Swarm", risk, "ipfs config --json Addresses.Swarm '[]'");
    }
    if config.pointer("/AutoConf/Enabled") != Some(&Value::Bool(false)) {
        let risk = "the node fetches its network settings from a public server";
        push("AutoConf.Enabled", risk, "ipfs config --json AutoConf.Enabled false");
    }
    if config.pointer("/Gateway/NoFetch") != Some(&Value::Bool(true)) {
        let risk = "the gateway fetches for whoever asks it";
        push("Gateway.NoFetch", risk, "ipfs config --json Gateway.NoFetch true");
    }
    if config.pointer("/Plugins/Plugins/telemetry/Disabled") != Some(&Value::Bool(true)) {
        let risk = "the node reports about itself";
        push("Plugins.Plugins.telemetry", risk, "ipfs config --json Plugins.Plugins.telemetry.Disabled true");
    }
    advice
}

/// Who may use the RPC: whoever can may also unpin and remove.
fn access(config: &Value) -> Option<Advice> {
    let authorizations = config.pointer("/API/Authorizations").and_then(Value::as_object);
    let is_open = authorizations.is_none_or(serde_json::Map::is_empty);
    (is_open && listens(config, "/Addresses/API")).then(|| Advice {
        setting: "API.Authorizations",
        risk: "the RPC is open to everybody who reaches it: they can unpin and remove",
        command: "ipfs config --json API.Authorizations \
                  '{\"pinfold\":{\"AuthSecret\":\"basic:USER:PASSWORD\",\"AllowedPaths\":[\"/api/v0\"]}}'"
            .to_owned(),
    })
}

/// Whether an address, or one of a list of addresses, is reachable from elsewhere.
fn listens(config: &Value, pointer: &str) -> bool {
    let is_remote = |address: &Value| {
        let text = address.as_str().unwrap_or_default();
        !["/ip4/127.", "/ip6/::1/", "/unix/"].iter().any(|local| text.starts_with(local))
    };
    match config.pointer(pointer) {
        Some(Value::Array(addresses)) => addresses.iter().any(is_remote),
        Some(address @ Value::String(_)) => is_remote(address),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({
            "Datastore": {"HashOnRead": true, "Spec": {"type": "mount", "mounts": [
                {"mountpoint": "/blocks", "type": "measure", "child": {"type": "flatfs", "sync": true}},
                {"mountpoint": "/", "type": "levelds"},
            ]}},
            "Routing": {"Type": "none"}, "Bootstrap": [], "AutoConf": {"Enabled": false}, "Gateway": {"NoFetch": true},
            "Addresses": {"Swarm": [], "API": "/ip4/127.0.0.1/tcp/5001"},
            "Plugins": {"Plugins": {"telemetry": {"Disabled": true}}},
        })
    }

    fn settings(config: &Value, network: Network) -> Vec<&'static str> {
        advice(config, network).into_iter().map(|advice| advice.setting).collect()
    }

    #[test]
    fn each_default_that_does_not_suit_is_named_alone() {
        assert_eq!(advice(&good(), Network::Private), []);
        for (pointer, value, setting) in [
            ("/Datastore/HashOnRead", json!(false), "Datastore.HashOnRead"),
            ("/Datastore/Spec/mounts/0/child/sync", json!(false), "Datastore.Spec, sync"),
            ("/Routing/Type", json!("autoclient"), "Routing.Type"),
            ("/Routing", json!({}), "Routing.Type"),
            ("/Bootstrap", json!(["auto"]), "Bootstrap"),
            ("/Addresses/Swarm", json!(["/ip4/0.0.0.0/tcp/4001"]), "Addresses.Swarm"),
            ("/AutoConf", json!({}), "AutoConf.Enabled"),
            ("/Gateway/NoFetch", json!(false), "Gateway.NoFetch"),
            ("/Plugins", json!({"Plugins": null}), "Plugins.Plugins.telemetry"),
            ("/Addresses/API", json!("/ip4/0.0.0.0/tcp/5001"), "API.Authorizations"),
        ] {
            let mut config = good();
            *config.pointer_mut(pointer).unwrap() = value;
            assert_eq!(settings(&config, Network::Private), [setting], "{pointer}");
        }
    }

    #[test]
    fn an_empty_configuration_is_all_defaults_and_a_public_node_may_talk() {
        assert_eq!(settings(&json!({}), Network::Public), ["Datastore.HashOnRead"]);
        assert!(settings(&json!({}), Network::Private).contains(&"Routing.Type"));
    }

    #[test]
    fn the_command_for_the_store_keeps_the_rest_of_it() {
        let mut config = good();
        config["Datastore"]["Spec"]["mounts"][0]["child"]["sync"] = json!(false);
        let command = advice(&config, Network::Private).remove(0).command;
        let spec = command.strip_prefix("ipfs config --json Datastore.Spec '").unwrap().strip_suffix('\'').unwrap();
        assert_eq!(serde_json::from_str::<Value>(spec).unwrap(), good()["Datastore"]["Spec"]);
    }
}
