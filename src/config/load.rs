//! Reading the file, laying the variables over it, and checking what the types cannot.
//!
//! A variable is `PINFOLD__` and the upper-case path of a key, parts joined by `__`; lists are given with commas.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Contents, Delay, Http, Keep, Kek, Network, Pin, Registry, Source, place};
use crate::core::origin::Origin;

const PREFIX: &str = "PINFOLD__";

/// The file to read: what the caller was told, else `$PINFOLD_CONFIG`, else `./pinfold.toml`.
pub fn config_path(given: Option<&Path>) -> PathBuf {
    let from_env = || std::env::var_os("PINFOLD_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    given.map(Path::to_path_buf).or_else(from_env).unwrap_or_else(|| PathBuf::from("pinfold.toml"))
}

/// Whether the environment asks for no colour (<https://no-color.org>).
pub fn wants_no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// What it and the variables say together.
    pub config: Config,
    /// Where the value of a dotted key came from; one that is not in here is the default.
    pub from: BTreeMap<String, CameFrom>,
}

/// Where a value came from, if it is not the default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CameFrom {
    /// The file.
    File,
    /// The variable of this name.
    Variable(String),
}

/// Reads the file at `path` with the variables of the environment over it.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
    let mut variables = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)).map(str::to_owned) else { continue };
        let value = value.into_string().map_err(|_| ConfigError::Variable {
            name: name.clone(),
            message: "not UTF-8".to_owned(),
            hint: None,
        })?;
        variables.insert(name, value);
    }
    parse(path, &text, &variables)
}

/// Reads `text` as the file at `path`, with these variables over it: no file and no environment is looked at.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(path: &Path, text: &str, variables: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    let mut config: Config = toml::from_str(text).map_err(|error| at_place(path, text, &error))?;
    let mut table: toml::Table = toml::from_str(text).map_err(|error| at_place(path, text, &error))?;
    let mut from = BTreeMap::new();
    keys_of("", &table, &mut from);
    no_secret_in_file(&from).map_err(|error| placed(path, text, &from, error))?;
    for (name, value) in variables {
        let keys = path_of(name);
        config = overlay(&mut table, name, &keys, value)?;
        from.insert(keys.join("."), CameFrom::Variable(name.clone()));
    }
    let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    resolve(&mut config, base);
    validate(&config).map_err(|error| placed(path, text, &from, error))?;
    Ok(Loaded { path: path.to_path_buf(), config, from })
}

/// All keys of a table with a value, in dotted form.
fn keys_of(prefix: &str, table: &toml::Table, found: &mut BTreeMap<String, CameFrom>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => keys_of(&key, inner, found),
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
                for (at, inner) in items.iter().enumerate() {
                    inner.as_table().into_iter().for_each(|inner| keys_of(&format!("{key}[{at}]"), inner, found));
                }
            }
            _ => drop(found.insert(key, CameFrom::File)),
        }
    }
}

/// The configuration file is copied, shown and sent to support: a secret stands in a file of its own.
fn no_secret_in_file(from: &BTreeMap<String, CameFrom>) -> Result<(), ConfigError> {
    let is_secret = |key: &&String| {
        let parts: Vec<&str> = key.split('.').collect();
        matches!(parts.as_slice(), ["source" | "pin", _, "password"])
    };
    match from.keys().find(is_secret) {
        None => Ok(()),
        Some(key) => {
            let hint = format!("{key}_file = \"...\", or the variable {}", variable_of(key));
            Err(ConfigError::value(key, "a secret does not stand in this file", Some(&hint)))
        }
    }
}

/// The variable of a dotted key.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The path of the key a variable sets. Options of librdkafka have dots where a variable has single underscores.
fn path_of(variable: &str) -> Vec<String> {
    let mut keys: Vec<String> = variable.trim_start_matches(PREFIX).split("__").map(str::to_lowercase).collect();
    if let [.., table, option] = keys.as_mut_slice()
        && table == "librdkafka"
    {
        *option = match option.strip_suffix("_file") {
            Some(secret) => format!("{}_file", secret.replace('_', ".")),
            None => option.replace('_', "."),
        };
    }
    keys
}

/// An error about a value, with the place the value came from.
fn placed(path: &Path, text: &str, from: &BTreeMap<String, CameFrom>, error: ConfigError) -> ConfigError {
    let ConfigError::Value { key, message, hint } = error else { return error };
    if let Some(CameFrom::Variable(name)) = from.get(&key) {
        return ConfigError::Variable { name: name.clone(), message, hint };
    }
    match place::of_key(text, &key) {
        None => ConfigError::Value { key, message, hint },
        Some(byte) => {
            let (line, column) = place::line_and_column(text, byte);
            let message = format!("{key}: {message}");
            ConfigError::AtPlace { path: path.to_path_buf(), line, column, message, hint }
        }
    }
}

/// Sets one variable as text, number or list: the first form in which the whole configuration reads.
fn overlay(table: &mut toml::Table, name: &str, keys: &[String], value: &str) -> Result<Config, ConfigError> {
    let items = value.split(',').map(|item| toml::Value::String(item.trim().to_owned())).collect();
    let mut forms = vec![toml::Value::String(value.to_owned())];
    forms.extend(value.parse::<i64>().map(toml::Value::Integer));
    forms.extend(value.parse::<bool>().map(toml::Value::Boolean));
    forms.push(toml::Value::Array(items));
    let mut last = None;
    for form in forms {
        let mut candidate = table.clone();
        if !set(&mut candidate, keys, form) {
            break;
        }
        match Config::deserialize_table(&candidate) {
            Ok(config) => {
                *table = candidate;
                return Ok(config);
            }
            Err(error) => last = last.or(Some(error)),
        }
    }
    let message = last.as_ref().map_or("not the path of a key", toml::de::Error::message);
    // The message of a type error quotes the value; a secret must not be shown.
    let message = message.replace(&format!("\"{value}\""), "the value").replace(&format!("`{value}`"), "the value");
    let hint = last.as_ref().and_then(|error| nearest(error.message()));
    Err(ConfigError::Variable { name: name.to_owned(), message, hint })
}

impl Config {
    fn deserialize_table(table: &toml::Table) -> Result<Config, toml::de::Error> {
        table.clone().try_into()
    }
}

fn set(table: &mut toml::Table, keys: &[String], value: toml::Value) -> bool {
    match keys {
        [] => false,
        [key] => {
            table.insert(key.clone(), value);
            true
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            inner.as_table_mut().is_some_and(|inner| set(inner, rest, value))
        }
    }
}

fn at_place(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let start = unknown_key(error.message()).map_or(start, |key| find_key(text, start, key).unwrap_or(start));
    let (line, column) = place::line_and_column(text, start);
    let (message, hint) = (without_value(error.message()), nearest(error.message()));
    ConfigError::AtPlace { path: path.to_path_buf(), line, column, message, hint }
}

/// A type error without the value it quotes: it may be a secret whose quotes were forgotten. The place says which it is.
fn without_value(message: &str) -> String {
    let Some((kind, rest)) = message.strip_prefix("invalid type: ").and_then(|found| found.split_once(", expected "))
    else {
        return message.to_owned();
    };
    let kind = kind.split(['`', '"']).next().unwrap_or_default().trim_end();
    format!("invalid type: {kind}, expected {rest}")
}

/// The `x` of `unknown field `x`, expected ..`.
fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// Where `key` stands at the start of a line at or after `start`. A table with a `kind` is read as a whole, so its
/// errors only have the place of the table.
fn find_key(text: &str, start: usize, key: &str) -> Option<usize> {
    let mut at = start;
    for line in text.get(start..)?.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let is_key = |rest: &str| rest.trim_start().starts_with('=');
        if line.trim_start().strip_prefix(key).is_some_and(is_key) {
            return Some(at + indent);
        }
        at += line.len();
    }
    None
}

/// Of `unknown field `x`, expected one of `a`, `b``: the one that is nearest to `x`.
fn nearest(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let known = words.max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)))?;
    Some(format!("did you mean `{known}`?"))
}

fn validate_http(http: &Http) -> Result<(), ConfigError> {
    in_range("http.requests_per_second_max", u64::from(http.requests_per_second_max), 1..=100_000)?;
    if http.tls_cert.is_some() != http.tls_key.is_some() {
        let (key, other) = if http.tls_cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
        return Err(ConfigError::value(format!("http.{key}"), format!("without http.{other}"), None));
    }
    if http.client_ca.is_some() && http.tls_cert.is_none() {
        return Err(ConfigError::value(
            "http.client_ca",
            "without http.tls_cert: clear text has no certificates",
            None,
        ));
    }
    Ok(())
}

/// Relative paths start at the file.
fn resolve(config: &mut Config, base: &Path) {
    let at = |path: &mut PathBuf| *path = base.join(&*path);
    at(&mut config.log.data);
    at(&mut config.log.heads);
    at(&mut config.log.key_file);
    at(&mut config.keyring.path);
    let Kek::File { path } = &mut config.keyring.kek;
    at(path);
    let http = &mut config.http;
    for file in [&mut http.tls_cert, &mut http.tls_key, &mut http.client_ca, &mut http.tokens] {
        // Earlier versions wrote these keys as empty.
        file.take_if(|path| path.as_os_str().is_empty());
        file.iter_mut().for_each(at);
    }
    for Source::Kafka(kafka) in config.source.values_mut() {
        kafka.password_file.iter_mut().for_each(at);
    }
    for pin in config.pin.values_mut() {
        match pin {
            Pin::Kubo(kubo) => kubo.password_file.iter_mut().for_each(at),
            Pin::Folder(folder) => at(&mut folder.path),
        }
    }
    config.witness.iter_mut().flat_map(|witness| &mut witness.policy_file).for_each(at);
    for registry in config.registry.values_mut() {
        match registry {
            Registry::Sqlite(sqlite) => at(&mut sqlite.path),
            Registry::Snowflake(snowflake) => at(&mut snowflake.private_key_file),
        }
    }
    for authority in config.timestamp.values_mut() {
        at(&mut authority.roots);
    }
}

fn validate(config: &Config) -> Result<(), ConfigError> {
    Origin::new(&config.log.origin)
        .map_err(|refused| ConfigError::value("log.origin", refused.what, Some("like example.com/audit/main")))?;
    let names = config.source.keys().map(|name| ("source", name));
    let names = names.chain(config.pin.keys().map(|name| ("pin", name)));
    let names = names.chain(config.timestamp.keys().map(|name| ("timestamp", name)));
    for (table, name) in names.chain(config.registry.keys().map(|name| ("registry", name))) {
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(sound) {
            let message = "names are 1 to 64 of a-z 0-9 _, so that every option has a variable";
            return Err(ConfigError::value(format!("{table}.{name}"), message, None));
        }
    }
    in_range("seal.entries_max", config.seal.entries_max, 1..=65_536)?;
    in_range("seal.bytes_max", config.seal.bytes_max.0, 1 << 16..=448 << 20)?;
    in_range("seal.entries_min", config.seal.entries_min, 1..=65_536)?;
    in_range("limits.record_bytes_max", config.limits.record_bytes_max.0, 1 << 10..=16 << 20)?;
    in_range("limits.subjects_per_event_max", config.limits.subjects_per_event_max, 1..=199)?;
    in_range("archive.copies_min", config.archive.copies_min, 1..=16)?;
    if config.local.keep_archive != Keep::All {
        let message = "this version never removes segments from the archive folder: its registries read them again";
        return Err(ConfigError::value("local.keep_archive", message, Some("keep_archive = \"all\"")));
    }
    validate_http(&config.http)?;
    if config.seal.observe_every < Delay::from_secs(1) {
        return Err(ConfigError::value("seal.observe_every", "less than a second", None));
    }
    if config.seal.age_limit < config.seal.age_max {
        return Err(ConfigError::value("seal.age_limit", "less than seal.age_max", None));
    }
    for (name, Source::Kafka(kafka)) in &config.source {
        validate_kafka(&format!("source.{name}"), kafka)?;
    }
    if let Some(witness) = &config.witness {
        witness.validate()?;
    }
    for (name, pin) in &config.pin {
        if let Pin::Kubo(kubo) = pin
            && kubo.network == Network::Public
            && kubo.contents == Contents::ProofAndPayload
            && !kubo.public_payload
        {
            let hint = "contents = \"proof\", or public_payload = true if strangers may keep the ciphertext for ever";
            return Err(ConfigError::value(format!("pin.{name}"), "payload on a public network", Some(hint)));
        }
    }
    Ok(())
}

fn in_range(key: &str, value: u64, range: std::ops::RangeInclusive<u64>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(key, format!("{value} is not within {} and {}", range.start(), range.end()), None))
}

fn validate_kafka(key: &str, kafka: &super::Kafka) -> Result<(), ConfigError> {
    if kafka.brokers.is_empty() {
        return Err(ConfigError::value(format!("{key}.brokers"), "no broker", Some("brokers = [\"host:9092\"]")));
    }
    if kafka.topic.is_empty() {
        let hint = format!("[[{key}.topic]] with a name or a pattern");
        return Err(ConfigError::value(format!("{key}.topic"), "no topic", Some(&hint)));
    }
    let start_known = matches!(kafka.start.as_str(), "earliest" | "latest");
    if !start_known && crate::core::time::Timestamp::parse_rfc3339(&kafka.start).is_none() {
        let message = "neither earliest nor latest nor a time with a zone (RFC 3339)";
        return Err(ConfigError::value(format!("{key}.start"), message, None));
    }
    for (i, topic) in kafka.topic.iter().enumerate() {
        let key = format!("{key}.topic[{i}]");
        match (&topic.name, &topic.pattern) {
            (Some(_), None) => {}
            (None, Some(pattern)) => {
                regex::Regex::new(pattern)
                    .map_err(|error| ConfigError::value(format!("{key}.pattern"), error.to_string(), None))?;
                if !topic.alias.is_empty() {
                    return Err(ConfigError::value(format!("{key}.alias"), "only with a name", None));
                }
            }
            _ => return Err(ConfigError::value(key, "a name or a pattern, and not both", None)),
        }
        if matches!(topic.retention_class.as_str(), "" | "operator" | "quarantine") {
            return Err(ConfigError::value(format!("{key}.retention_class"), "not a class for events", None));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        load(text, variables).map(|loaded| loaded.config)
    }

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(Path::new("dir/pinfold.toml"), text, &variables)
            .map_err(|error| format!("{error} | {}", error.hint().unwrap_or("-")))
    }

    const MINIMAL: &str = "[log]\norigin = \"example.com/a\"\n";

    #[test]
    fn absent_keys_have_the_documented_defaults_and_paths_start_at_the_file() {
        let config = check(MINIMAL, &[]).unwrap();
        assert_eq!(config.seal.entries_max, 65_536);
        assert_eq!(config.log.data, Path::new("dir/data"));
        assert_eq!(config.http.listen, "127.0.0.1:7410");
    }

    #[test]
    fn an_unknown_key_is_named_with_place_and_nearest() {
        let error = check("[log]\norigin = \"example.com/a\"\n[seal]\nage_mx = \"1m\"\n", &[]).unwrap_err();
        assert!(error.starts_with("config dir/pinfold.toml: line 4, column 1: unknown field `age_mx`"), "{error}");
        assert!(error.ends_with("did you mean `age_max`?"), "{error}");
    }

    #[test]
    fn an_unknown_key_in_a_table_with_a_kind_is_found_too() {
        let toml = format!("{MINIMAL}[pin.k]\nkind = \"folder\"\npath = \"x\"\n  contens = \"proof\"\n");
        let error = check(&toml, &[]).unwrap_err();
        assert!(error.contains("line 6, column 3: unknown field `contens`"), "{error}");
        assert!(error.ends_with("did you mean `contents`?"), "{error}");
    }

    #[test]
    fn a_variable_overrides_whatever_its_type() {
        let toml = format!("{MINIMAL}[pin.kubo]\nkind = \"kubo\"\nurl = \"http://127.0.0.1:1\"\n");
        let config = check(
            &toml,
            &[
                ("PINFOLD__PIN__KUBO__URL", "http://127.0.0.1:2"),
                ("PINFOLD__SEAL__ENTRIES_MAX", "7"),
                ("PINFOLD__LOG__CREATE", "true"),
                ("PINFOLD__SEAL__AGE_MAX", "3m"),
            ],
        )
        .unwrap();
        assert!(matches!(&config.pin["kubo"], Pin::Kubo(kubo) if kubo.url.ends_with(":2")));
        assert_eq!((config.seal.entries_max, config.log.create), (7, true));
    }

    #[test]
    fn an_unknown_variable_is_an_error_that_does_not_show_its_value() {
        let error = check(MINIMAL, &[("PINFOLD__SEAL__AGE_MX", "hunter2")]).unwrap_err();
        assert!(error.contains("PINFOLD__SEAL__AGE_MX") && error.contains("age_max"), "{error}");
        let error = check(MINIMAL, &[("PINFOLD__SEAL__ENTRIES_MAX", "hunter2")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        for (toml, key) in [
            ("[log]\norigin = \"Example\"\n".to_owned(), "log.origin"),
            (format!("{MINIMAL}[seal]\nentries_max = 65537\n"), "seal.entries_max"),
            (format!("{MINIMAL}[seal]\nage_max = \"2d\"\n"), "seal.age_limit"),
            (format!("{MINIMAL}[local]\nkeep_archive = \"30d\"\n"), "local.keep_archive"),
            (format!("{MINIMAL}[source.r]\nkind = \"kafka\"\nbrokers = [\"a:1\"]\n"), "source.r.topic"),
            (
                format!("{MINIMAL}[pin.k]\nkind = \"kubo\"\nurl = \"http://a\"\nnetwork = \"public\"\n"),
                "payload on a public network",
            ),
            (format!("{MINIMAL}[witness]\nmode = \"fail-closed\"\n"), "policy_file or policy"),
            (format!("{MINIMAL}[witness]\npolicy = \"\"\npolicy_file = \"p\"\n"), "policy_file or policy"),
            (format!("{MINIMAL}[pin.K]\nkind = \"folder\"\npath = \"x\"\n"), "names are 1 to 64"),
        ] {
            let error = check(&toml, &[]).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_has_the_place_it_came_from() {
        let toml = format!("{MINIMAL}[seal]\nage_max = \"2d\"\n  entries_max = 65537\n");
        let error = check(&toml, &[]).unwrap_err();
        assert!(error.contains("line 5, column 3: seal.entries_max: 65537 is not within"), "{error}");
        let error = check(MINIMAL, &[("PINFOLD__SEAL__ENTRIES_MAX", "0")]).unwrap_err();
        assert!(error.starts_with("variable PINFOLD__SEAL__ENTRIES_MAX: 0 is not within"), "{error}");
    }

    #[test]
    fn each_value_knows_where_it_came_from() {
        let loaded = load(MINIMAL, &[("PINFOLD__SEAL__AGE_MAX", "3m")]).unwrap();
        assert_eq!(loaded.from["log.origin"], CameFrom::File);
        assert_eq!(loaded.from["seal.age_max"], CameFrom::Variable("PINFOLD__SEAL__AGE_MAX".to_owned()));
        assert_eq!(loaded.from.get("seal.age_limit"), None);
    }

    const KAFKA: &str = "[source.r]\nkind = \"kafka\"\nbrokers = [\"a:1\"]\n[[source.r.topic]]\nname = \"t\"\n";

    #[test]
    fn a_secret_comes_as_a_variable_or_a_file_and_is_never_shown() {
        let toml = format!("{MINIMAL}{KAFKA}");
        let config = check(&toml, &[("PINFOLD__SOURCE__R__PASSWORD", "hunter2")]).unwrap();
        let Source::Kafka(kafka) = &config.source["r"];
        assert_eq!(kafka.password.as_ref().map(|secret| secret.reveal()), Some("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2") && !toml::to_string(&config).unwrap().contains("hunter2"));
        let error = check(&toml.replace("brokers", "password = \"hunter2\"\nbrokers"), &[]).unwrap_err();
        assert!(error.contains("line 5, column 1: source.r.password: a secret does not stand"), "{error}");
        assert!(error.contains("PINFOLD__SOURCE__R__PASSWORD") && !error.contains("hunter2"), "{error}");
        let numeric = format!("{toml}[source.r.librdkafka]\n\"sasl.password\" = 123456\n");
        let error = check(&numeric, &[]).unwrap_err();
        assert!(error.contains("expected a string") && !error.contains("123456"), "{error}");
    }

    #[test]
    fn options_of_librdkafka_have_variables() {
        let toml = format!("{MINIMAL}{KAFKA}");
        let variables = [
            ("PINFOLD__SOURCE__R__LIBRDKAFKA__SECURITY_PROTOCOL", "SASL_SSL"),
            ("PINFOLD__SOURCE__R__LIBRDKAFKA__SSL_KEY_PASSWORD_FILE", "keys/tls"),
        ];
        let config = check(&toml, &variables).unwrap();
        let Source::Kafka(kafka) = &config.source["r"];
        assert_eq!(kafka.librdkafka["security.protocol"], "SASL_SSL");
        assert_eq!(kafka.librdkafka["ssl.key.password_file"], "keys/tls");
    }
}
