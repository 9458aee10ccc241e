//! A policy: the logs and witnesses somebody trusts, and which sets of witnesses are enough.
//!
//! Names are opaque bytes and mean nothing outside the file; keys identify. Read strictly: a policy that is read as
//! another one is a hole nobody sees. Spec: c2sp.org/tlog-policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::core::finding::Refused;
use crate::core::note::{Note, Vkey, WitnessVkey};

/// Bytes of a policy file, at most.
pub const POLICY_BYTES_MAX: usize = 65_536;
/// Logs, witnesses and groups together, at most; the specification asks for 32 of each.
pub const NAMES_MAX: usize = 512;

/// A policy that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The logs. None: they are known from elsewhere.
    pub logs: Vec<Log>,
    /// The witnesses, in the order of the file.
    pub witnesses: Vec<Witness>,
    /// Witnesses and groups, each after those it names.
    rules: Vec<Rule>,
    /// The rule that must hold; `None` is `quorum none`.
    quorum: Option<usize>,
}

/// A log of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Its key; the name is the origin.
    pub vkey: Vkey,
    /// Where it is.
    pub url: Option<String>,
}

/// A witness of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// Its key.
    pub vkey: WitnessVkey,
    /// The submission prefix, where the policy has it.
    pub url: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Rule {
    /// The witness at this index has signed.
    Witness(usize),
    /// So many of these rules hold.
    AtLeast(usize, Vec<usize>),
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// `non-canonical` with the line, also where a key is of a type that is not verified here.
    pub fn parse(text: &[u8]) -> Result<Policy, Refused> {
        let refused = |what: &str| Refused::non_canonical(format!("policy: {what}"));
        if text.len() > POLICY_BYTES_MAX {
            return Err(refused("longer than 65,536 bytes"));
        }
        // A file that was cut may end in another name than the one that was written.
        let lines = text.strip_suffix(b"\n").ok_or_else(|| refused("its last line does not end"))?;
        let mut reader = Reader::default();
        for (line, number) in lines.split(|byte| *byte == b'\n').zip(1u32..) {
            let at_line =
                |refused: Refused| Refused { what: format!("policy, line {number}: {}", refused.what), ..refused };
            reader.line(line).map_err(at_line)?;
        }
        let quorum = reader.quorum.ok_or_else(|| refused("no quorum line"))?;
        Ok(Policy { logs: reader.logs, witnesses: reader.witnesses, rules: reader.rules, quorum })
    }

    /// Whether `quorum none` stands in it: then no signature is asked for, and none confirms anything.
    pub fn asks_for_none(&self) -> bool {
        self.quorum.is_none()
    }

    /// Whether those witnesses are enough of whom `has_signed`, by their index, is true.
    pub fn is_met(&self, has_signed: impl Fn(usize) -> bool) -> bool {
        let Some(quorum) = self.quorum else { return true };
        let mut holds: Vec<bool> = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let held = |at: &usize| holds.get(*at).copied().unwrap_or_default();
            let is_held = match rule {
                Rule::Witness(index) => has_signed(*index),
                Rule::AtLeast(least, members) => members.iter().filter(|at| held(at)).count() >= *least,
            };
            holds.push(is_held);
        }
        holds.get(quorum).copied().unwrap_or_default()
    }

    /// Whether the witnesses that signed `note` are enough.
    ///
    /// # Errors
    /// `bad-cosignature` where a line of one of the witnesses does not verify.
    pub fn is_met_by(&self, note: &Note<'_>) -> Result<bool, Refused> {
        let signed = self.witnesses.iter().map(|witness| Ok(!witness.vkey.verify(note)?.is_empty()));
        let signed: Vec<bool> = signed.collect::<Result<_, Refused>>()?;
        Ok(self.is_met(|index| signed.get(index).copied().unwrap_or_default()))
    }
}

/// A policy while it is read.
#[derive(Default)]
struct Reader<'a> {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    rules: Vec<Rule>,
    names: BTreeMap<&'a [u8], usize>,
    /// Rules that are in a group already: each counts in one way only.
    members: BTreeSet<usize>,
    quorum: Option<Option<usize>>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a [u8]) -> Result<(), Refused> {
        if line.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
            return Err(Refused::non_canonical("a control character"));
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let items: Vec<&[u8]> = line.split(is_space).filter(|item| !item.is_empty()).collect();
        if self.logs.len() + self.rules.len() > NAMES_MAX {
            return Err(Refused::non_canonical(format!("more than {NAMES_MAX} logs, witnesses and groups")));
        }
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", vkey] => self.log(vkey, None),
            [b"log", vkey, url] => self.log(vkey, Some(url)),
            [b"witness", name, vkey] => self.witness(name, vkey, None),
            [b"witness", name, vkey, url] => self.witness(name, vkey, Some(url)),
            [b"group", name, threshold, members @ ..] => self.group(name, threshold, members),
            [b"quorum", name] => self.quorum(name),
            _ => Err(Refused::non_canonical(
                "not `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME all|any|K NAME...` or `quorum NAME`",
            )),
        }
    }

    fn log(&mut self, vkey: &[u8], url: Option<&[u8]>) -> Result<(), Refused> {
        let vkey: Vkey = read_vkey(vkey)?;
        if self.logs.iter().any(|known| is_same_key(&known.vkey, &vkey)) {
            return Err(Refused::non_canonical("a log whose key stands above already"));
        }
        self.logs.push(Log { vkey, url: url.map(text_of) });
        Ok(())
    }

    fn witness(&mut self, name: &'a [u8], vkey: &[u8], url: Option<&[u8]>) -> Result<(), Refused> {
        let vkey: WitnessVkey = read_vkey(vkey)?;
        if self.witnesses.iter().any(|known| is_same_key(&known.vkey, &vkey)) {
            return Err(Refused::non_canonical("a witness whose key stands above already"));
        }
        self.define(name, Rule::Witness(self.witnesses.len()))?;
        self.witnesses.push(Witness { vkey, url: url.map(text_of) });
        Ok(())
    }

    fn group(&mut self, name: &'a [u8], threshold: &[u8], members: &[&[u8]]) -> Result<(), Refused> {
        let mut rules = Vec::with_capacity(members.len());
        for member in members {
            let rule = self.defined(member)?;
            if !self.members.insert(rule) {
                return Err(Refused::non_canonical(format!("`{}` is in a group already", text_of(member))));
            }
            rules.push(rule);
        }
        let least = match threshold {
            b"all" => rules.len(),
            b"any" => 1,
            number => read_number(number)?,
        };
        if least == 0 || least > rules.len() {
            let what = format!("a group that needs {least} of {} members", rules.len());
            return Err(Refused::non_canonical(what));
        }
        self.define(name, Rule::AtLeast(least, rules))
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), Refused> {
        if self.quorum.is_some() {
            return Err(Refused::non_canonical("a second quorum line"));
        }
        self.quorum = Some(if name == NONE { None } else { Some(self.defined(name)?) });
        Ok(())
    }

    fn define(&mut self, name: &'a [u8], rule: Rule) -> Result<(), Refused> {
        if name == NONE || self.names.insert(name, self.rules.len()).is_some() {
            return Err(Refused::non_canonical(format!("the name `{}` is taken", text_of(name))));
        }
        self.rules.push(rule);
        Ok(())
    }

    fn defined(&self, name: &[u8]) -> Result<usize, Refused> {
        let unknown = || Refused::non_canonical(format!("`{}` is defined on no line above", text_of(name)));
        self.names.get(name).copied().ok_or_else(unknown)
    }
}

/// The name that stands for no witness at all.
const NONE: &[u8] = b"none";

/// Names and addresses as messages show them.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read_vkey<K: FromStr<Err = Refused>>(bytes: &[u8]) -> Result<K, Refused> {
    std::str::from_utf8(bytes).map_err(|_| Refused::non_canonical("vkey: not UTF-8"))?.parse()
}

/// Whether two vkeys of one type wrap the same key, whatever their names.
fn is_same_key<K: fmt::Display>(one: &K, other: &K) -> bool {
    let key = |vkey: &K| vkey.to_string().rsplit('+').next().map(str::to_owned);
    key(one) == key(other)
}

fn read_number(bytes: &[u8]) -> Result<usize, Refused> {
    let is_decimal = bytes.iter().all(u8::is_ascii_digit) && !bytes.starts_with(b"0") && bytes.len() <= 4;
    let number = std::str::from_utf8(bytes).ok().filter(|_| is_decimal).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Refused::non_canonical("a threshold that is not `all`, `any` or a number"))
}

#[cfg(test)]
mod tests;
