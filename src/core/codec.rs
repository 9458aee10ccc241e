//! Strict DAG-CBOR: the writer (`serde_cbor`), the strict reader, and the checks both need.
