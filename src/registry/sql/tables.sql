-- The registry's tables, schema version 1: portable text, rendered for each engine by `registry::sql`.
-- TIMESTAMP = UTC wall clock, microseconds. Ranges: first_/last_ are inclusive. Hashes hex, CIDs base32 lower case.
-- Absent text that is part of a key is '', else NULL. Every column of segments, segment_sources, segment_pins, anchors,
-- entries, gaps, contested_ranges, quarantined and signing_keys is a function of the log, so an audit compares each;
-- logs and registration_hwm are not.

CREATE TABLE schema_version (version BIGINT NOT NULL PRIMARY KEY, applied_at TIMESTAMP NOT NULL);
CREATE TABLE logs (              -- one row a log; a heartbeat by the registrar, so that a silent or lagging sidecar shows in SQL
  origin VARCHAR(255) NOT NULL PRIMARY KEY, tenant VARCHAR(255), keyring_id VARCHAR(64) NOT NULL, format_version BIGINT NOT NULL,
  copies_min BIGINT NOT NULL, verify_max_age_s BIGINT NOT NULL, reported_size BIGINT NOT NULL, reported_root VARCHAR(64) NOT NULL,
  reported_segments BIGINT NOT NULL, reported_at TIMESTAMP NOT NULL, silent_after TIMESTAMP NOT NULL, software VARCHAR(255));
CREATE TABLE registration_hwm (  -- the fence: moved only by compare-and-swap on (size, root), after checking that our tree at that size has that root; another root is the fork alarm
  origin VARCHAR(255) NOT NULL PRIMARY KEY, size BIGINT NOT NULL, root VARCHAR(64) NOT NULL, updated_at TIMESTAMP NOT NULL);
CREATE TABLE segments (          -- keyed by CID, not by number: both halves of a fork stay visible
  seal_cid VARCHAR(128) NOT NULL PRIMARY KEY, origin VARCHAR(255) NOT NULL, segment_no BIGINT NOT NULL, first_seq BIGINT NOT NULL,
  last_seq BIGINT NOT NULL, entry_count BIGINT NOT NULL, payload_cid VARCHAR(128), prev_seal_cid VARCHAR(128), root VARCHAR(64) NOT NULL,
  checkpoint VARCHAR(4096) NOT NULL, key_id VARCHAR(16) NOT NULL, format_version BIGINT NOT NULL, proof_bytes BIGINT NOT NULL,
  payload_bytes BIGINT, sealed_at TIMESTAMP NOT NULL, registered_at TIMESTAMP NOT NULL);
CREATE TABLE segment_sources (
  seal_cid VARCHAR(128) NOT NULL, origin VARCHAR(255) NOT NULL, cluster_id VARCHAR(255) NOT NULL, topic VARCHAR(255) NOT NULL,
  topic_id VARCHAR(64) NOT NULL, partition_no BIGINT NOT NULL, first_offset BIGINT NOT NULL, last_offset BIGINT NOT NULL,
  record_count BIGINT NOT NULL, PRIMARY KEY (seal_cid, cluster_id, topic, topic_id, partition_no, first_offset));
CREATE TABLE segment_pins (
  seal_cid VARCHAR(128) NOT NULL, target VARCHAR(64) NOT NULL, origin VARCHAR(255) NOT NULL, contents VARCHAR(16) NOT NULL,
  status VARCHAR(16) NOT NULL, verified_bytes BIGINT, pinned_at TIMESTAMP, verified_at TIMESTAMP, PRIMARY KEY (seal_cid, target));
CREATE TABLE anchors (
  seal_cid VARCHAR(128) NOT NULL, kind VARCHAR(16) NOT NULL, authority VARCHAR(255) NOT NULL, origin VARCHAR(255) NOT NULL, size BIGINT NOT NULL,
  anchor_cid VARCHAR(128), anchored_at TIMESTAMP NOT NULL, PRIMARY KEY (seal_cid, kind, authority));
CREATE TABLE entries (           -- every entry, control entries too
  origin VARCHAR(255) NOT NULL, seq BIGINT NOT NULL, seal_cid VARCHAR(128) NOT NULL, leaf_hash VARCHAR(64) NOT NULL, kind VARCHAR(32) NOT NULL,
  cluster_id VARCHAR(255), topic VARCHAR(255), topic_id VARCHAR(64), partition_no BIGINT, record_offset BIGINT, record_time TIMESTAMP,
  event_source VARCHAR(1024), event_id VARCHAR(1024), event_type VARCHAR(255), tenant VARCHAR(255), event_time TIMESTAMP,
  recorded_at TIMESTAMP NOT NULL, duplicate_of BIGINT, erased_by VARCHAR(64), PRIMARY KEY (origin, seq));
CREATE TABLE gaps (
  origin VARCHAR(255) NOT NULL, seq BIGINT NOT NULL, cluster_id VARCHAR(255) NOT NULL, topic VARCHAR(255) NOT NULL, topic_id VARCHAR(64) NOT NULL,
  partition_no BIGINT NOT NULL, first_offset BIGINT NOT NULL, last_offset BIGINT NOT NULL, reason VARCHAR(32) NOT NULL, PRIMARY KEY (origin, seq));
CREATE TABLE contested_ranges (
  origin VARCHAR(255) NOT NULL, seq BIGINT NOT NULL, cluster_id VARCHAR(255) NOT NULL, topic VARCHAR(255) NOT NULL, topic_id VARCHAR(64) NOT NULL,
  partition_no BIGINT NOT NULL, first_offset BIGINT NOT NULL, last_offset BIGINT NOT NULL, PRIMARY KEY (origin, seq));
CREATE TABLE quarantined (
  origin VARCHAR(255) NOT NULL, seq BIGINT NOT NULL, reason VARCHAR(32) NOT NULL, cluster_id VARCHAR(255), topic VARCHAR(255), partition_no BIGINT,
  record_offset BIGINT, recorded_at TIMESTAMP NOT NULL, resolved_seq BIGINT, PRIMARY KEY (origin, seq));
CREATE TABLE signing_keys (
  origin VARCHAR(255) NOT NULL, key_id VARCHAR(16) NOT NULL, vkey VARCHAR(512) NOT NULL, from_seq BIGINT NOT NULL, not_after_seq BIGINT,
  declared_seq BIGINT NOT NULL, reason VARCHAR(64), PRIMARY KEY (origin, key_id));
