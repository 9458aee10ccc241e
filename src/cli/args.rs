//! What can be asked on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::config::Delay;

/// Folds consent and data events into a signed log, archives it by content and registers it in SQL.
#[derive(Parser, Debug)]
#[command(name = "pinfold", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 good; 1 the answer is no, or refused; 2 usage or config; 3 something outside not \
reached; 4 halted; 5 not permitted; 70 bug. verify: 0 valid and anchored, 10 valid but unanchored, 20 incomplete, \
30 diverged, 40 tampered, 50 cannot check."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Args {
    /// Reads the command line. `--color` is looked for first, so that it holds for what is said about a wrong call too.
    ///
    /// # Errors
    /// A wrong call, or a request for help: printed by the caller.
    pub(super) fn read() -> Result<Args, clap::Error> {
        let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let color = |word: &str| match word {
            "always" => Some(ColorChoice::Always),
            "never" => Some(ColorChoice::Never),
            _ => None,
        };
        let apart = words.windows(2).filter_map(|pair| pair.first().filter(|word| *word == "--color").and(pair.last()));
        let joined = words.iter().filter_map(|word| word.strip_prefix("--color="));
        let choice = apart.map(String::as_str).chain(joined).find_map(color).unwrap_or(ColorChoice::Auto);
        let matches = Args::command().color(choice).try_get_matches()?;
        Args::from_arg_matches(&matches)
    }

    /// Whether a call that could not be read asked for JSON.
    pub(super) fn wanted_json() -> bool {
        std::env::args_os().any(|word| word == "--json")
    }
}

/// Options of every command.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Global {
    /// The configuration; else $PINFOLD_CONFIG, else ./pinfold.toml.
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) config: Option<PathBuf>,
    /// One JSON object on stdout (NDJSON for lists), and nothing else.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say more; twice, everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say only what went wrong.
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// When to colour; `auto` is on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub(super) color: Color,
    /// How long the command may wait for something outside.
    #[arg(long, global = true, value_name = "D", value_parser = delay)]
    pub(super) timeout: Option<Duration>,
    /// Do not ask before destroying something.
    #[arg(long, global = true)]
    pub(super) yes: bool,
}

fn delay(text: &str) -> Result<Duration, String> {
    Delay::parse(text).map(Delay::duration).ok_or_else(|| "a whole number and ms, s, m, h or d".to_owned())
}

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Tell the whole story on embedded parts: no broker, IPFS node, warehouse or account.
    Demo(Demo),
    /// Make a log: configuration, keys, keyring, journal. Overwrites nothing.
    Init(Init),
    /// Look at everything the log needs, and say what to change.
    Doctor {
        /// Write a tar file for support: what was found, the configuration without secrets, versions. No persons.
        #[arg(long, value_name = "F")]
        bundle: Option<PathBuf>,
    },
    /// Look at the configuration.
    #[command(subcommand)]
    Config(Config),
    /// Fold what arrives, seal, pin and register, until told to stop.
    Run(Run),
    /// Ask a running sidecar how it is: 0 or 1.
    Health {
        /// Whether it takes records and everyone it needs answers.
        #[arg(long)]
        ready: bool,
    },
    /// Where the log stands, stage by stage.
    Status,
    /// Go on after a halt; the halt stays visible as the reason given here.
    Resume,
    /// Fold records from files, or from standard input (`-`).
    Ingest(Ingest),
    /// The topics of the log.
    #[command(subcommand)]
    Topic(Topic),
    /// The keys of the log, and handing it over to another one.
    #[command(subcommand)]
    Key(Key),
    /// Seal what waits, now.
    Seal,
    /// Pin what is sealed, now; or audit what is pinned.
    Pin(Pin),
    /// Register what is pinned, now.
    Register,
    /// Drop from the journal what is done everywhere.
    Prune {
        /// Only say what would be dropped.
        #[arg(long)]
        dry_run: bool,
    },
    /// Ask the time-stamp authorities of the configuration about the newest checkpoint that may be shown.
    Timestamp(Timestamp),
    /// Audit an archive from its bytes; without an argument the configured log, its archive and registries.
    Verify(Verify),
    /// Write an evidence bundle of a range of entries: one file that anyone checks with `check`, or with Python.
    Export(Export),
    /// Prove an entry, or that one checkpoint continues another: a file that anyone checks with `check`.
    Prove(Prove),
    /// Check a proof or an evidence tar: with vkeys alone, no configuration and no network.
    Check(Check),
    /// The log as tlog-tiles, for monitors, witnesses and web servers.
    #[command(subcommand)]
    Tiles(Tiles),
    /// Who may read over HTTP.
    #[command(subcommand)]
    Token(Token),
    /// One entry, as anyone may see it.
    Show {
        /// Its place in the log.
        seq: u64,
    },
    /// Ask a registry a question; without a name, list the questions.
    Query(Query),
    /// Make the journal anew from the archive, up to its last seal.
    Rebuild(Rebuild),
    /// Registry tables.
    #[command(subcommand)]
    Registry(Registry),
    /// Be a witness of logs: cosign what continues what was cosigned before. Needs no log of its own.
    #[command(subcommand)]
    Witness(Witness),
    /// Completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The manual page, of a command where one is named: `pinfold man verify | man -l -`.
    Man {
        /// Which command.
        command: Option<String>,
    },
    /// The version of the software, the log format and the SQL schema.
    Version,
}

/// `demo`
#[derive(clap::Args, Debug)]
pub(super) struct Demo {
    /// Where to make the log; a new directory for temporary files where absent.
    #[arg(long, value_name = "D")]
    pub(super) dir: Option<PathBuf>,
    /// How many events.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub(super) events: u64,
}

/// `run`
#[derive(clap::Args, Debug)]
pub(super) struct Run {
    /// Stop by itself when everything is read, sealed, pinned and registered.
    #[arg(long)]
    pub(super) until_idle: bool,
    /// Stop by itself at so many entries.
    #[arg(long, value_name = "N")]
    pub(super) until_size: Option<u64>,
}

/// `pin`
#[derive(clap::Args, Debug)]
pub(super) struct Pin {
    /// Ask every target for blocks drawn at random, and hash them.
    #[arg(long)]
    pub(super) audit: bool,
    /// How many blocks of each target; `archive.audit_sample` where absent.
    #[arg(long, value_name = "N", requires = "audit", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) sample: Option<u64>,
    /// Put back what is lost or altered, from our archive or from another target. Without --audit every block of every
    /// file is read, ours too.
    #[arg(long)]
    pub(super) repair: bool,
}

/// `ingest`
#[derive(clap::Args, Debug)]
pub(super) struct Ingest {
    /// The files, or `-`.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The topic's name in the log; the file's name where absent.
    #[arg(long = "as", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// How the file is cut into records: ndjson, json or protobuf; by its ending or first byte where absent.
    #[arg(long, value_name = "F")]
    pub(super) format: Option<String>,
    /// Only read and say what would be folded.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// `topic`
#[derive(Subcommand, Debug)]
pub(super) enum Topic {
    /// The declared topics.
    List,
    /// Take a topic whose history at the broker was rewritten as a new one; an entry says so, and the halt ends.
    Adopt,
}

/// `key`
#[derive(Subcommand, Debug)]
pub(super) enum Key {
    /// Every key the log had, and its recovery key.
    List,
    /// Give the log to a new key, by the word of the old one; an entry says so.
    Rotate,
    /// Take the log from a stolen key, by the word of the recovery key; an entry says so, and a note to be published.
    Revoke(Revoke),
}

/// `key revoke`
#[derive(clap::Args, Debug)]
pub(super) struct Revoke {
    /// The recovery key, where it is at hand: prepares, signs and revokes at once. With --sign: what signs.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["prepare", "note", "abandon"])]
    pub(super) recovery_key: Option<PathBuf>,
    /// Write the text that the recovery key is to sign, and pause until it comes back.
    #[arg(long, value_name = "F", conflicts_with_all = ["sign", "note", "abandon", "output"])]
    pub(super) prepare: Option<PathBuf>,
    /// Sign such a text with --recovery-key, and write the note to -o. Needs no log.
    #[arg(long, value_name = "F", requires = "recovery_key", conflicts_with_all = ["note", "abandon"])]
    pub(super) sign: Option<PathBuf>,
    /// Take the signed text back, and revoke.
    #[arg(long, value_name = "F", conflicts_with = "abandon")]
    pub(super) note: Option<PathBuf>,
    /// Give up what was prepared, and go on with the key.
    #[arg(long, conflicts_with = "output")]
    pub(super) abandon: bool,
    /// Where the note goes; the one to publish, where absent, beside the key file.
    #[arg(short, long, value_name = "F")]
    pub(super) output: Option<PathBuf>,
}

/// `timestamp`
#[derive(clap::Args, Debug)]
pub(super) struct Timestamp {
    /// Where checkpoint and tokens are written, to be kept apart from the archive; what is there is kept.
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: PathBuf,
    /// Ask this authority only; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Vec<String>,
}

/// `verify`
#[derive(clap::Args, Debug)]
pub(super) struct Verify {
    /// An archive directory, or CAR files; else the configured log with its head file, journal and registries.
    #[arg(value_name = "DIR|FILE", conflicts_with = "from_ipfs")]
    pub(super) paths: Vec<PathBuf>,
    /// A Kubo node to fetch the archive from.
    #[arg(long, value_name = "URL", requires = "cid")]
    pub(super) from_ipfs: Option<String>,
    /// The newest seal.
    #[arg(long, requires = "from_ipfs")]
    pub(super) cid: Option<String>,
    /// A file with vkeys, one a line: the log's, and its recovery vkey.
    #[arg(long, value_name = "F")]
    pub(super) vkey: Vec<PathBuf>,
    /// A checkpoint or live head known from elsewhere; with --fleet one for each member.
    #[arg(long, value_name = "F")]
    pub(super) known_head: Vec<PathBuf>,
    /// The archives of all members of a fleet: each is audited, then whether together they have every offset, each once.
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["paths", "from_ipfs", "registry", "known_token", "witness_policy"])]
    pub(super) fleet: Vec<PathBuf>,
    /// The roots of time-stamp authorities you trust, in PEM or DER: time stamps are verified up to them.
    #[arg(long, value_name = "F")]
    pub(super) tsa_roots: Vec<PathBuf>,
    /// A time stamp of a checkpoint that you kept apart from the archive: it confirms the newest, or shows a rollback.
    #[arg(long, value_name = "F", requires = "tsa_roots")]
    pub(super) known_token: Vec<PathBuf>,
    /// Compare with a registry of the configuration; without a name with all.
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    pub(super) registry: Option<Option<String>>,
    /// Read the payloads of so many segments only, chosen at random; all proofs are read. Shows nothing about the others.
    #[arg(long, value_name = "N")]
    pub(super) sample: Option<usize>,
    /// Choose the sample that this number gives; else one that is printed.
    #[arg(long, value_name = "S", requires = "sample")]
    pub(super) seed: Option<u64>,
    /// A revocation note.
    #[arg(long, value_name = "NOTE")]
    pub(super) revoked: Vec<PathBuf>,
    /// A policy of witnesses (c2sp.org/tlog-policy): their cosignatures are verified, and those with an address asked
    /// for what they hold.
    #[arg(long, value_name = "F")]
    pub(super) witness_policy: Option<PathBuf>,
    /// Findings listed, at most; all are counted.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) findings_max: usize,
    /// Exit 0 instead of 10 where nothing outside the archive confirms it.
    #[arg(long)]
    pub(super) allow_unanchored: bool,
}

/// `export`
#[derive(clap::Args, Debug)]
pub(super) struct Export {
    /// The entries from A until before B.
    #[arg(long, value_name = "A..B", conflicts_with_all = ["from", "to"], required_unless_present = "from")]
    pub(super) range: Option<String>,
    /// The entries recorded from this time on, as far as the log states times in clear.
    #[arg(long, value_name = "T", requires = "to")]
    pub(super) from: Option<String>,
    /// Until before this time.
    #[arg(long, value_name = "T", requires = "from")]
    pub(super) to: Option<String>,
    /// Where to write it.
    #[arg(short, long, value_name = "X.evidence.tar")]
    pub(super) output: PathBuf,
    /// Open this part of each entry that has it, for whoever gets the file: 0 the operator's, 1 the first person's.
    #[arg(long, value_name = "PART", requires = "reason_file")]
    pub(super) disclose: Option<u32>,
    /// A file with the reason why they are opened, or `-`.
    #[arg(long, value_name = "F", requires = "disclose")]
    pub(super) reason_file: Option<PathBuf>,
}

/// `prove`
#[derive(clap::Args, Debug)]
pub(super) struct Prove {
    /// The entry's place in the log.
    #[arg(required_unless_present = "consistency")]
    pub(super) seq: Option<u64>,
    /// Prove that the checkpoint of size B continues that of size A.
    #[arg(long, value_name = "A..B", conflicts_with_all = ["seq", "disclose"])]
    pub(super) consistency: Option<String>,
    /// Where to write it; standard output where absent. With changes of key before the checkpoint it is an evidence tar.
    #[arg(short, long, value_name = "F")]
    pub(super) output: Option<PathBuf>,
    /// Open this part of the entry for whoever gets the file: its number in `parts`, from 0. Leaves an entry.
    #[arg(long, value_name = "PART", requires = "reason_file")]
    pub(super) disclose: Option<u32>,
    /// A file with the reason why it is opened, or `-`.
    #[arg(long, value_name = "F", requires = "disclose")]
    pub(super) reason_file: Option<PathBuf>,
}

/// `check`
#[derive(clap::Args, Debug)]
pub(super) struct Check {
    /// A `.tlog-proof`, a consistency proof or an evidence tar.
    #[arg(value_name = "F")]
    pub(super) file: PathBuf,
    /// A file with vkeys, one a line: the log's, and its recovery vkey.
    #[arg(long, value_name = "F")]
    pub(super) vkey: Vec<PathBuf>,
    /// A checkpoint known from elsewhere.
    #[arg(long, value_name = "F")]
    pub(super) known_head: Option<PathBuf>,
    /// Exit 0 instead of 10 where nothing outside the file confirms its checkpoint.
    #[arg(long)]
    pub(super) allow_unanchored: bool,
}

/// `tiles`
#[derive(Subcommand, Debug)]
pub(super) enum Tiles {
    /// Write what is released as static files, or add to them what is new.
    Export {
        /// Where: a directory of its own.
        dir: PathBuf,
    },
}

/// `token`
#[derive(Subcommand, Debug)]
pub(super) enum Token {
    /// Make one; it is printed once. A running sidecar takes it after SIGHUP.
    Add {
        /// Whom or what it is for.
        name: String,
        /// What it may do; `auditor` reads.
        #[arg(long, default_value = "auditor")]
        role: String,
    },
    /// Those there are, without the secrets.
    List,
    /// Take one away. A running sidecar refuses it after SIGHUP.
    Revoke {
        /// Its id, as `list` has it.
        id: String,
    },
}

/// `rebuild`
#[derive(clap::Args, Debug)]
pub(super) struct Rebuild {
    /// A directory with the archive: a pin target, or a copy. Else the configured log's own.
    #[arg(long, value_name = "DIR", conflicts_with = "from_ipfs")]
    pub(super) from: Option<PathBuf>,
    /// A Kubo node to fetch the archive from.
    #[arg(long, value_name = "URL", requires = "cid")]
    pub(super) from_ipfs: Option<String>,
    /// The newest seal.
    #[arg(long, requires = "from_ipfs")]
    pub(super) cid: Option<String>,
    /// Go on although a known head lies beyond the archive; an entry says which one was lost.
    #[arg(long)]
    pub(super) accept_lost_tail: bool,
    /// Read and audit everything, and only say what would be done.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// `query`
#[derive(clap::Args, Debug)]
pub(super) struct Query {
    /// The question.
    pub(super) name: Option<String>,
    /// A parameter of it.
    #[arg(long = "param", value_name = "K=V")]
    pub(super) params: Vec<String>,
    /// Which registry; the first where absent.
    #[arg(long, value_name = "NAME")]
    pub(super) registry: Option<String>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
    /// Rows, at most.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
}

/// How rows are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Format {
    /// Columns for people.
    Table,
    /// One object a line.
    Json,
    /// RFC 4180.
    Csv,
}

/// `registry`
#[derive(Subcommand, Debug)]
pub(super) enum Registry {
    /// Make tables and views where they are missing.
    Init {
        /// Which registry; all where absent.
        name: Option<String>,
    },
    /// Drop all rows of this log, and write them anew from the archive.
    Rebuild {
        /// Which registry; all where absent.
        name: Option<String>,
    },
}

/// `witness`
#[derive(Subcommand, Debug)]
pub(super) enum Witness {
    /// Make a witness: key, state, an empty list of logs. Overwrites nothing.
    Init {
        /// Where to make it.
        dir: PathBuf,
        /// Its name in every cosignature, once for ever: a URL without a scheme, like witness.example.com/w1
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Answer add-checkpoint requests until told to stop; SIGHUP rereads the list of logs.
    Serve {
        /// Where `witness init` made it.
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// The address to listen on; TLS ends in front of it.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7412")]
        listen: String,
        /// The key, with its vkey beside; else DIR/witness.key.
        #[arg(long, value_name = "F")]
        key: Option<PathBuf>,
        /// The list of logs (c2sp.org/tlog-list); else DIR/logs.
        #[arg(long, value_name = "F")]
        logs: Option<PathBuf>,
        /// What it has cosigned; else DIR/witness.state.
        #[arg(long, value_name = "F")]
        state: Option<PathBuf>,
    },
}

/// `init`
#[derive(clap::Args, Debug)]
pub(super) struct Init {
    /// Where to make it.
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
    /// The log's name, once for ever: 3 to 128 of a-z 0-9 . - _ /
    #[arg(long, value_name = "NAME")]
    pub(super) origin: Option<String>,
    /// Do nothing, successfully, where one is already.
    #[arg(long)]
    pub(super) if_absent: bool,
}

/// `config`
#[derive(Subcommand, Debug)]
pub(super) enum Config {
    /// Read it and say what is wrong.
    Check {
        /// Do not ask pin targets, registries and brokers.
        #[arg(long)]
        offline: bool,
    },
    /// Print it as it is understood, each value with where it came from; secrets are masked.
    Show,
    /// Print its JSON Schema.
    Schema,
}
