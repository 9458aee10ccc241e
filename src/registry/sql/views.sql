-- The registry's views, schema version 1: portable text. v_now is the one view that differs by engine: `registry::sql`.

CREATE VIEW v_missing_segments AS             -- head, middle and tail
SELECT g.origin, g.prev_no + 1 AS first_missing, g.segment_no - 1 AS last_missing, 'middle' AS place
FROM (SELECT s.origin, s.segment_no, LAG(s.segment_no) OVER (PARTITION BY s.origin ORDER BY s.segment_no) AS prev_no FROM (SELECT DISTINCT origin, segment_no FROM segments) s) g
WHERE g.prev_no IS NOT NULL AND g.segment_no > g.prev_no + 1
UNION ALL SELECT m.origin, 0, m.lo - 1, 'head' FROM (SELECT origin, MIN(segment_no) AS lo FROM segments GROUP BY origin) m WHERE m.lo > 0
UNION ALL SELECT l.origin, COALESCE(m.hi + 1, 0), l.reported_segments - 1, 'tail'
FROM logs l LEFT JOIN (SELECT origin, MAX(segment_no) AS hi FROM segments GROUP BY origin) m ON m.origin = l.origin WHERE l.reported_segments > COALESCE(m.hi + 1, 0);
CREATE VIEW v_broken_links AS
SELECT s.origin, s.segment_no, s.seal_cid, s.prev_seal_cid, 'link' AS reason
FROM segments s JOIN segments p ON p.origin = s.origin AND p.segment_no = s.segment_no - 1
GROUP BY s.origin, s.segment_no, s.seal_cid, s.prev_seal_cid, s.first_seq
HAVING SUM(CASE WHEN s.prev_seal_cid = p.seal_cid AND s.first_seq = p.last_seq + 1 THEN 1 ELSE 0 END) = 0
UNION ALL SELECT s.origin, s.segment_no, s.seal_cid, s.prev_seal_cid, 'fork'
FROM segments s JOIN (SELECT origin, segment_no FROM segments GROUP BY origin, segment_no HAVING COUNT(*) > 1) f ON f.origin = s.origin AND f.segment_no = s.segment_no
UNION ALL SELECT s.origin, s.segment_no, s.seal_cid, s.prev_seal_cid, 'range' FROM segments s
WHERE s.last_seq <> s.first_seq + s.entry_count - 1 OR (s.segment_no = 0 AND (s.first_seq <> 0 OR s.prev_seal_cid IS NOT NULL)) OR (s.segment_no > 0 AND s.prev_seal_cid IS NULL);
CREATE VIEW v_under_replicated AS
SELECT s.origin, s.segment_no, s.seal_cid, s.payload_cid, l.copies_min, COALESCE(c.proof_copies, 0) AS proof_copies, COALESCE(c.payload_copies, 0) AS payload_copies, c.oldest_check_at
FROM segments s JOIN logs l ON l.origin = s.origin
LEFT JOIN (SELECT seal_cid, COUNT(*) AS proof_copies, SUM(CASE WHEN contents = 'proof+payload' THEN 1 ELSE 0 END) AS payload_copies, MIN(verified_at) AS oldest_check_at
           FROM segment_pins WHERE status = 'verified' AND verified_at IS NOT NULL GROUP BY seal_cid) c ON c.seal_cid = s.seal_cid
WHERE COALESCE(c.proof_copies, 0) < l.copies_min OR (s.payload_cid IS NOT NULL AND COALESCE(c.payload_copies, 0) < l.copies_min);
CREATE VIEW v_offset_gaps AS                  -- over the whole fleet: between ranges, and inside a range where records + declared gaps fall short
SELECT r.cluster_id, r.topic, r.topic_id, r.partition_no, r.prev_last + 1 AS first_offset, r.first_offset - 1 AS last_offset, r.first_offset - 1 - r.prev_last AS missing, 'between' AS place, r.origin, r.seal_cid
FROM (SELECT a.*, MAX(a.last_offset) OVER (PARTITION BY a.cluster_id, a.topic, a.topic_id, a.partition_no ORDER BY a.first_offset, a.last_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS prev_last
      FROM (SELECT cluster_id, topic, topic_id, partition_no, first_offset, last_offset, origin, seal_cid FROM segment_sources
            UNION ALL SELECT cluster_id, topic, topic_id, partition_no, first_offset, last_offset, origin, NULL FROM gaps) a) r
WHERE r.prev_last IS NOT NULL AND r.first_offset > r.prev_last + 1
UNION ALL
SELECT s.cluster_id, s.topic, s.topic_id, s.partition_no, s.first_offset, s.last_offset, s.last_offset - s.first_offset + 1 - s.record_count - COALESCE(SUM(g.last_offset - g.first_offset + 1), 0), 'inside', s.origin, s.seal_cid
FROM segment_sources s LEFT JOIN gaps g ON g.origin = s.origin AND g.cluster_id = s.cluster_id AND g.topic = s.topic AND g.topic_id = s.topic_id AND g.partition_no = s.partition_no
     AND g.first_offset >= s.first_offset AND g.last_offset <= s.last_offset
GROUP BY s.cluster_id, s.topic, s.topic_id, s.partition_no, s.first_offset, s.last_offset, s.record_count, s.origin, s.seal_cid
HAVING s.last_offset - s.first_offset + 1 - s.record_count - COALESCE(SUM(g.last_offset - g.first_offset + 1), 0) > 0;
CREATE VIEW v_bad_keys AS
SELECT s.origin, s.segment_no, s.seal_cid, s.key_id, CASE WHEN k.key_id IS NULL THEN 'unknown' WHEN s.last_seq < k.from_seq THEN 'not-yet-valid' ELSE 'revoked' END AS reason
FROM segments s LEFT JOIN signing_keys k ON k.origin = s.origin AND k.key_id = s.key_id
WHERE k.key_id IS NULL OR s.last_seq < k.from_seq OR (k.not_after_seq IS NOT NULL AND s.last_seq > k.not_after_seq);
CREATE VIEW v_provenance AS                   -- one row an entry; the pins of a segment, one by one, are in segment_pins
SELECT e.event_source, e.event_id, e.event_type, e.tenant, e.cluster_id, e.topic, e.topic_id, e.partition_no, e.record_offset, e.record_time, e.event_time, e.recorded_at, e.kind, e.duplicate_of, e.erased_by,
       e.origin, e.seq, e.leaf_hash, s.segment_no, s.seal_cid, s.payload_cid, s.root, s.key_id, s.sealed_at, s.registered_at,
       COALESCE(c.copies, 0) AS verified_copies, c.verified_at, COALESCE(a.anchors, 0) AS anchors
FROM entries e JOIN segments s ON s.seal_cid = e.seal_cid
LEFT JOIN (SELECT seal_cid, COUNT(*) AS copies, MAX(verified_at) AS verified_at FROM segment_pins WHERE status = 'verified' GROUP BY seal_cid) c ON c.seal_cid = s.seal_cid
LEFT JOIN (SELECT seal_cid, COUNT(*) AS anchors FROM anchors GROUP BY seal_cid) a ON a.seal_cid = s.seal_cid;
