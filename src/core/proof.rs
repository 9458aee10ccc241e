//! What leaves the log alone: `.tlog-proof` files, disclosures, evidence tars.
