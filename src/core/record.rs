//! A record as the broker delivered it: bytes, not yet an event.

/// One header of a record. Names are bytes, may repeat, and keep their order; a value may be null.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, as bytes.
    pub name: Vec<u8>,
    /// The value; null and empty are two things.
    pub value: Option<Vec<u8>>,
}

/// One record of one partition.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The key; null and empty are two things.
    pub key: Option<Vec<u8>>,
    /// The value; null is a tombstone at the broker and still a record here.
    pub value: Option<Vec<u8>>,
    /// The headers, in order, duplicates kept.
    pub headers: Vec<Header>,
    /// Milliseconds since the Unix epoch as the broker says; -1 where it has none.
    pub timestamp_ms: i64,
    /// The broker's code: 0 create time, 1 log append time, 2 none known.
    pub timestamp_type: u32,
}

impl Record {
    /// The bytes of key, value and headers: what `record_bytes_max` limits.
    pub fn len(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        self.headers.iter().map(|h| h.name.len() + of(&h.value)).sum::<usize>() + of(&self.key) + of(&self.value)
    }

    /// Whether key, value and headers hold no byte at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Record {
    /// Sizes only: what a record holds is personal until proven otherwise.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("bytes", &self.len()).field("headers", &self.headers.len()).finish()
    }
}
