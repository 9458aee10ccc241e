//! The metrics of surface.md, made from the same answer as `status`: OpenMetrics text 1.0.0.

use std::fmt::Write;

use crate::sidecar::Status;

/// The text of `/metrics`.
pub(super) fn text(status: &Status) -> String {
    let mut out = Text(String::new());
    out.gauge("log_size", "Entries of the log.", &[(&[], status.size)]);
    let entries: Vec<_> = status.entries.iter().map(|(kind, count)| (vec![("kind", kind.as_str())], *count)).collect();
    out.family("entries", "counter", "_total", "Entries by kind.", &entries);
    let quarantined: Vec<_> =
        status.quarantined_by_reason.iter().map(|(why, count)| (vec![("reason", why.as_str())], *count)).collect();
    out.family("quarantined", "counter", "_total", "Quarantined records by reason.", &quarantined);
    let gaps: Vec<_> =
        status.gaps_by_reason.iter().map(|(why, count)| (vec![("reason", why.as_str())], *count)).collect();
    out.family("gaps", "counter", "_total", "Declared ranges of offsets without entries, by reason.", &gaps);
    let lags: Vec<_> =
        status.sources.iter().filter_map(|source| Some((source, source.partition.to_string(), source.lag?))).collect();
    let lags: Vec<_> = lags
        .iter()
        .map(|(source, partition, lag)| {
            (vec![("topic", source.topic.as_str()), ("partition", partition.as_str())], *lag)
        })
        .collect();
    out.family("kafka_lag_records", "gauge", "", "Records behind the last stable offset.", &lags);
    let stages = [("pin", &status.pinned), ("anchor", &status.anchored), ("register", &status.registered)];
    let witnessed = status.witnessed.map(|witnessed| status.sealed.segments.saturating_sub(witnessed.segments));
    let witnessed: Vec<_> = witnessed.map(|behind| (Vec::new(), behind)).into_iter().collect();
    let backlog: Vec<_> = stages
        .iter()
        .flat_map(|(stage, lanes)| lanes.iter().map(move |(target, done)| (*stage, target, *done)))
        .map(|(stage, target, done)| {
            (vec![("stage", stage), ("target", target.as_str())], status.sealed.segments.saturating_sub(done))
        })
        .collect();
    out.family("backlog_segments", "gauge", "", "Sealed segments not yet there.", &backlog);
    if !witnessed.is_empty() {
        let help = "Sealed segments that the quorum of the witness policy does not cover.";
        out.family("unwitnessed_segments", "gauge", "", help, &witnessed);
    }
    let successes: Vec<_> = status
        .last_success
        .iter()
        .map(|(stage, target, at)| (vec![("stage", *stage), ("target", target.as_str())], *at))
        .collect();
    out.family("last_success_timestamp_seconds", "gauge", "", "When a request last succeeded.", &successes);
    out.gauge("halted", "1 while a halt stands.", &[(&[], u64::from(status.halted.is_some()))]);
    out.gauge("paused", "1 while intake is paused.", &[(&[], u64::from(status.paused.is_some()))]);
    out.gauge("disk_free_bytes", "Free bytes of the data directory.", &[(&[], status.disk_free_bytes)]);
    out.0.push_str("# EOF\n");
    out.0
}

struct Text(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    fn gauge(&mut self, name: &str, help: &str, samples: &[(Labels<'_>, u64)]) {
        let samples: Vec<_> = samples.iter().map(|(labels, value)| (labels.to_vec(), *value)).collect();
        self.family(name, "gauge", "", help, &samples);
    }

    fn family(&mut self, name: &str, kind: &str, suffix: &str, help: &str, samples: &[(Vec<(&str, &str)>, u64)]) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "# HELP pinfold_{name} {help}\n# TYPE pinfold_{name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "pinfold_{name}{suffix}{labels} {value}");
        }
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
