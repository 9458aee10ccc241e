//! The file `pinfold init` writes: every option with its default, in the order one meets them.

/// The text of a new `pinfold.toml` for a log named `origin`.
pub fn template(origin: &str) -> String {
    TEXT.replace("{origin}", origin)
}

const TEXT: &str = r#"# Pinfold. Every option with its default; what is commented out is optional.
# Every option has a variable: [pin.kubo] url is PINFOLD__PIN__KUBO__URL. Relative paths start at this file.

[log]
origin = "{origin}"             # the log's name, once for ever
tenant = ""
data = "data"
heads = "heads"                 # the last head; put it on another volume
key_file = "keys/log.key"
create = false                  # whether `run` may make the log where nothing knows it
stop_within = "20s"

[logging]
level = "info"                  # error | warn | info | debug | trace
format = "auto"                 # text on a terminal, else json

[keyring]
path = "keyring"                # put it on another volume, and in no archive backup
kek = { kind = "file", path = "keys/kek" }      # for development only
cached_subjects_max = 200000

[identity]                      # how identifiers are normalised before look-up: lower | e164 | verbatim
email = "lower"
phone = "e164"
other = "verbatim"

# [source.redpanda]
# kind = "kafka"
# brokers = ["127.0.0.1:9092"]
# assignment = "group"          # or "static": all partitions, without a group
# group = "pinfold"
# instance = ""                 # the stable member name; made from host and origin where empty
# start = "earliest"            # | latest | a time (RFC 3339): only where we hold no position
# password_file = "keys/sasl"
# librdkafka = { "security.protocol" = "SASL_SSL" }   # passed through, minus what breaks exactly-once
# [[source.redpanda.topic]]
# name = "consent"              # or pattern = "^data\\."
# alias = ""                    # its public name in the log
# decode = "auto"               # auto | protobuf | cloudevents | raw
# retention_class = "consent_proof"
# shared = false                # whether other logs fold it too

[seal]
entries_max = 65536
bytes_max = "64MiB"
age_max = "10m"                 # once entries_min events wait
entries_min = 256
age_limit = "24h"               # in any case
observe_every = "10m"           # the broker's ends are written down this often, and before each seal

[limits]
record_bytes_max = "1MiB"
subjects_per_event_max = 199
disk_free_min = "1GiB"          # below it intake pauses
backlog_max = "20GiB"           # above it intake pauses

[archive]
copies_min = 2
audit_every = "24h"             # how often blocks of each copy are drawn, fetched and hashed; "0s" for never
audit_sample = 459               # finds damage to one byte in a hundred with 99 %
audit_repair = true              # puts a damaged file back at once; else `pinfold pin --repair` does it

[local]
keep_journal = "7d"             # or "all"; only what is done everywhere is dropped
keep_archive = "all"            # nothing else yet

# [pin.kubo]
# kind = "kubo"
# url = "http://127.0.0.1:5001"
# network = "private"           # "public" with payload also needs public_payload = true
# contents = "proof+payload"    # or "proof"
# public_payload = false
# user = "app"
# password_file = "keys/kubo"
# timeout = "60s"
# required = true               # false: a segment is done without it

# [pin.vault]
# kind = "folder"
# path = "/mnt/archive"
# contents = "proof+payload"
# required = true

[registry.local]
kind = "sqlite"
path = "data/registry.sqlite"
required = true

# [registry.hub]
# kind = "snowflake"
# account = "ORG-ACCT"
# url = "https://ORG-ACCT.snowflakecomputing.com"
# user = "PINFOLD"
# private_key_file = "keys/snowflake.p8"
# role = ""
# warehouse = ""
# database = "GOVERNANCE"
# schema = "PINFOLD"
# ddl = "manual"                # or "auto"
# batch_rows_max = 200
# timeout = "60s"
# required = true

# [timestamp.first]             # an RFC 3161 authority; name several, of different owners
# url = "http://timestamp.example.com/"
# roots = "keys/first-roots.pem" # what its tokens must lead to
# timeout = "15s"

# [witness]
# policy_file = "keys/witness.policy"     # c2sp.org/tlog-policy, with the witnesses' addresses; or policy = "..."
# mode = "fail-open"            # or "fail-closed": nothing is registered until the quorum signs
# timeout = "15s"

[http]
listen = "127.0.0.1:7410"       # /livez /readyz /metrics for all, the read API by token; "" for none
health_listen = ""              # /livez /readyz /metrics alone, in clear
# tls_cert = "keys/http.pem"    # the chain of `listen`; reread on SIGHUP, as the next two and the tokens
# tls_key = "keys/http.key"
# client_ca = "keys/clients.pem"        # whose client certificates may read
tokens = "keys/tokens.toml"     # `pinfold token add` writes it; only hashes are in it
requests_per_second_max = 200   # from one address
"#;

#[cfg(test)]
mod tests {
    use super::super::{Config, Keep};
    use super::*;

    fn read(text: &str) -> Config {
        toml::from_str(text).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn every_value_of_the_template_is_the_default() {
        let minimal = read(
            "[log]\norigin = \"example.com/a\"\n[registry.local]\nkind = \"sqlite\"\npath = \"data/registry.sqlite\"\n",
        );
        assert_eq!(format!("{:?}", read(&template("example.com/a"))), format!("{minimal:?}"));
        assert_eq!(minimal.local.keep_archive, Keep::All);
    }

    #[test]
    fn what_is_commented_out_reads_too() {
        let lines = TEXT.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || rest.split(' ').nth(1) == Some("=") => rest,
            _ => line,
        });
        let config = read(&lines.collect::<Vec<_>>().join("\n"));
        assert_eq!((config.source.len(), config.pin.len(), config.registry.len()), (1, 2, 2));
        assert_eq!(config.timestamp.len(), 1);
    }
}
