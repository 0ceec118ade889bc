//! How often the kernel has killed a process of our cgroup for lack of memory: the only trace that it leaves.

use std::fs;

/// The counter of our own memory cgroup (`memory.events` of version 2, `memory.oom_control` of version 1), or `None` when
/// there is none to read.
pub fn kills() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let file = match controllers {
            "" => format!("/sys/fs/cgroup{path}/memory.events"),
            list if list.split(',').any(|c| c == "memory") => {
                format!("/sys/fs/cgroup/memory{path}/memory.oom_control")
            }
            _ => return None,
        };
        counter(&fs::read_to_string(file).ok()?)
    })
}

fn counter(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_counter_is_one_line_of_several() {
        assert_eq!(super::counter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(super::counter("low 0\noom 1\n"), None);
    }
}
