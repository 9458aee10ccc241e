//! Cuts members out of JSON text and leaves every other byte as it came.
//!
//! Not a parser: it finds members, in one pass, at any depth, and takes a little more than JSON (several texts in a row,
//! loose numbers), because text that a lenient reader takes must not keep its secrets either. Spec: RFC 8259.

use std::borrow::Cow;

use super::names;

/// The text without its secrets; `None` where it has none or is no JSON.
pub(super) fn redacted(text: &[u8]) -> Option<Vec<u8>> {
    // No object, no member: spares the pass for the texts and numbers that keys and headers are.
    if !text.contains(&b'{') {
        return None;
    }
    let cuts = Scanner { text, at: 0, open: Vec::new(), cuts: Vec::new() }.scan()?;
    if cuts.is_empty() {
        return None;
    }
    let mut kept = Vec::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in cuts {
        kept.extend_from_slice(text.get(from..start)?);
        from = end;
    }
    kept.extend_from_slice(text.get(from..)?);
    Some(kept)
}

/// An object or array that is still open.
struct Open {
    is_object: bool,
    /// Holds contact data: the allow-list applies to its members.
    is_contact: bool,
    /// The end of the last member that stays.
    kept_end: Option<usize>,
    /// The member being read.
    member: Option<Member>,
    /// A cut that has to take the comma after it, because no member before it stays.
    is_cut_open: bool,
}

struct Member {
    start: usize,
    is_denied: bool,
    is_contact: bool,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    open: Vec<Open>,
    /// Ranges to leave out, ascending.
    cuts: Vec<(usize, usize)>,
}

impl<'a> Scanner<'a> {
    /// All cuts, or `None` where the text is no JSON. Each round reads one token.
    fn scan(mut self) -> Option<Vec<(usize, usize)>> {
        loop {
            self.skip_space();
            let Some(byte) = self.text.get(self.at).copied() else { break };
            match byte {
                b'{' | b'[' => self.enter(byte == b'{')?,
                b'}' | b']' => self.leave(byte == b'}')?,
                b',' => self.comma()?,
                b'"' if self.wants_name() => self.name()?,
                b'"' => {
                    self.string()?;
                    self.value_ended();
                }
                b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' if !self.wants_name() => {
                    let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    self.at += rest.iter().take_while(|b| is_word(b)).count();
                    self.value_ended();
                }
                _ => return None,
            }
        }
        self.open.is_empty().then_some(self.cuts)
    }

    fn skip_space(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
    }

    fn wants_name(&self) -> bool {
        self.open.last().is_some_and(|open| open.is_object && open.member.is_none())
    }

    fn enter(&mut self, is_object: bool) -> Option<()> {
        if self.wants_name() {
            return None;
        }
        // An array hands its flag on to the objects in it.
        let is_contact = match self.open.last() {
            Some(Open { member: Some(member), .. }) => member.is_contact,
            Some(Open { is_object: false, is_contact, .. }) => *is_contact,
            _ => false,
        };
        self.open.push(Open { is_object, is_contact, kept_end: None, member: None, is_cut_open: false });
        self.at += 1;
        Some(())
    }

    fn leave(&mut self, is_object: bool) -> Option<()> {
        let open = self.open.pop()?;
        if open.is_object != is_object || open.member.is_some() {
            return None;
        }
        self.at += 1;
        self.value_ended();
        Some(())
    }

    fn comma(&mut self) -> Option<()> {
        let open = self.open.last_mut()?;
        if open.is_object && open.member.is_some() {
            return None;
        }
        self.at += 1;
        if std::mem::take(&mut open.is_cut_open) {
            // Up to the next member, so that no space is left where the first one stood.
            self.skip_space();
            if let Some(last) = self.cuts.last_mut() {
                last.1 = self.at;
            }
        }
        Some(())
    }

    fn name(&mut self) -> Option<()> {
        let start = self.at;
        let name = unescaped(self.string()?);
        self.skip_space();
        if self.text.get(self.at) != Some(&b':') {
            return None;
        }
        self.at += 1;
        let open = self.open.last_mut()?;
        let is_denied = names::is_secret(&name) || (open.is_contact && !names::is_allowed_contact(&name));
        open.member = Some(Member { start, is_denied, is_contact: names::is_contact(&name) });
        Some(())
    }

    /// A value ends here: in an object this closes the member, and cuts it where it is denied.
    fn value_ended(&mut self) {
        let end = self.at;
        let Some(open) = self.open.last_mut() else { return };
        let Some(member) = open.member.take() else { return };
        if !member.is_denied {
            open.kept_end = Some(end);
            return;
        }
        let start = open.kept_end.unwrap_or(member.start);
        open.is_cut_open = open.kept_end.is_none();
        // What was cut within this member goes with it, and so does the cut it continues.
        while self.cuts.last().is_some_and(|(earlier, _)| *earlier >= start) {
            self.cuts.pop();
        }
        self.cuts.push((start, end));
    }

    /// A string, with its quotes off.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            match self.text.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        self.text.get(start..at)
    }
}

/// A name with its escapes resolved, as far as ASCII goes: `pass\u0077ord` is `password`.
fn unescaped(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'\\') {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let Some((escape, tail)) = rest.split_first() else { break };
        rest = tail;
        if *escape == b'u' {
            let code = rest.get(..4).and_then(|hex| std::str::from_utf8(hex).ok());
            let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            out.extend(code.filter(u8::is_ascii));
            rest = rest.get(4..).unwrap_or_default();
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let kept = redacted(text.as_bytes());
        assert_eq!(kept.is_some(), text != expected, "{text}");
        assert_eq!(String::from_utf8(kept.unwrap_or_else(|| text.into())).expect("text"), expected, "{text}");
    }

    #[test]
    fn members_go_wherever_they_stand_and_the_rest_stays_as_it_came() {
        check(r#"{"password":"x"}"#, "{}");
        check(r#"{"password":"x","a":1}"#, r#"{"a":1}"#);
        check(r#"{ "password" : "x" , "a":1 }"#, r#"{ "a":1 }"#);
        check(r#"{"a": 1.0 ,"password":"x"}"#, r#"{"a": 1.0}"#);
        check(r#"{"a":1,"password":"x","token":[1,{"b":2}],"c":2}"#, r#"{"a":1,"c":2}"#);
        check(r#"{"password":1,"secret":2,"token":3}"#, "{}");
        check(r#"{"password":1,"secret":2,"a":3}"#, r#"{"a":3}"#);
        check(r#"{"a":{"password":1},"token":2}"#, r#"{"a":{}}"#);
        check(r#"{"token":{"password":1,"a":{"secret":2}},"b":1}"#, r#"{"b":1}"#);
        check(r#"[{"a":[{"Magic_Link":"u"}]},"password",{"pass\u0077ord":"x"}]"#, r#"[{"a":[{}]},"password",{}]"#);
        check(r#"{"a":"\"","password":"}\\\",","b":2}"#, r#"{"a":"\"","b":2}"#);
        check("{\"password\":1}\n{\"b\":2}\n", "{}\n{\"b\":2}\n");
    }

    #[test]
    fn of_contact_data_only_what_is_allowed_stays() {
        check(
            r#"{"contact":{"email":"e","street":"s","Country":"DE"}}"#,
            r#"{"contact":{"email":"e","Country":"DE"}}"#,
        );
        check(r#"{"contacts":[{"name":"n","phone":"p"}],"name":"n"}"#, r#"{"contacts":[{"phone":"p"}],"name":"n"}"#);
    }

    #[test]
    fn what_is_no_json_stays_whole() {
        for text in
            ["", "password", "{", r#"{"password":"x""#, r#"{"password""x"}"#, r#"{"password":1]"#, "{]}", "\u{1}{}"]
        {
            check(text, text);
        }
    }

    #[test]
    fn depth_is_no_way_around_it_and_costs_no_stack() {
        let (open, close) = ("[".repeat(200_000), "]".repeat(200_000));
        check(&format!(r#"{open}{{"password":1}}{close}"#), &format!("{open}{{}}{close}"));
    }

    proptest::proptest! {
        /// Against a parser of others: what is left parses, and lacks exactly the denied members.
        #[test]
        fn what_is_left_is_the_value_without_its_secrets(value in values()) {
            let text = serde_json::to_string_pretty(&value).expect("writes");
            let kept = redacted(text.as_bytes()).unwrap_or_else(|| text.clone().into_bytes());
            let kept: serde_json::Value = serde_json::from_slice(&kept).expect("still JSON");
            proptest::prop_assert_eq!(kept, without(value));
        }
    }

    fn without(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Array(items) => Value::Array(items.into_iter().map(without).collect()),
            Value::Object(members) => {
                let kept = members.into_iter().filter(|(name, _)| !names::is_secret(name.as_bytes()));
                Value::Object(kept.map(|(name, value)| (name, without(value))).collect())
            }
            other => other,
        }
    }

    fn values() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            r#"[a"\\{},:]{0,4}"#.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let name = prop_oneof![r#"[a-c"\\]{1,2}"#, Just("password".to_owned()), Just("accessToken".to_owned())];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((name, inner), 0..5).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }
}
