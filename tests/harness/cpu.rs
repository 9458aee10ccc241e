//! The processor time of a process, by what its threads do: where the time of a bench goes.
//!
//! It holds on a machine that does other things as well. In steps of 10 ms; user and system together.

use std::collections::BTreeMap;

/// Name and microseconds of each thread, by its id. The first one runs the loop.
pub(crate) type Threads = BTreeMap<u32, (String, u64)>;

/// What the threads of a process have used so far; nothing where it is gone. Fields 14 and 15 of proc_pid_stat(5), in
/// clock ticks of 10 ms; the name may hold spaces and brackets.
pub(crate) fn of(pid: u32) -> Threads {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let thread = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let (tid, name) = head.split_once(" (")?;
        let tid: u32 = tid.parse().ok()?;
        let ticks = |field: usize| rest.split(' ').nth(field - 3).and_then(|ticks| ticks.parse::<u64>().ok());
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        let kind = if tid == pid { "loop" } else { kind };
        Some((tid, (kind.to_owned(), (ticks(14)? + ticks(15)?) * 10_000)))
    };
    tasks.filter_map(thread).collect()
}

/// What each kind of thread has spent on one of `events` between two looks, the most first.
pub(crate) fn per_event(before: &Threads, after: &Threads, events: u64) -> String {
    let mut kinds = BTreeMap::<&str, u64>::new();
    for (tid, (kind, us)) in after {
        *kinds.entry(kind).or_default() += us - before.get(tid).map_or(0, |(_, us)| *us);
    }
    let each = |us: u64| us as f64 / events as f64;
    let total = each(kinds.values().sum());
    let mut kinds: Vec<_> = kinds.into_iter().filter(|(_, us)| each(*us) >= 0.05).collect();
    kinds.sort_by_key(|(_, us)| std::cmp::Reverse(*us));
    let shown: Vec<String> = kinds.iter().map(|(kind, us)| format!("{kind} {:.1}", each(*us))).collect();
    format!("{total:.1} us of processor time an event: {}", shown.join(", "))
}
