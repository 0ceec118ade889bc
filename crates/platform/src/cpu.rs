//! How many processors this process may really use: the affinity mask and the cgroup's CPU quota.

use std::fs;
use std::path::{Path, PathBuf};

/// Processors in this thread's affinity mask (`sched_getaffinity(2)`); at least 1.
pub fn affinity_count() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| (set.count() as usize).max(1))
}

/// Restricts the calling thread to processor `cpu`.
pub fn pin_to(cpu: usize) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Sets rounding to nearest and denormals to full precision in this thread, and masks floating-point exceptions: the state
/// in which a process starts (x86-64 ABI: MXCSR 0x1f80; AArch64: FPCR 0).
#[inline]
pub fn reset_float_state() {
    #[cfg(target_arch = "x86_64")]
    {
        let default: u32 = 0x1f80;
        /// Sticky flags of exceptions that have happened: they influence nothing.
        const STICKY: u32 = 0x3f;
        let mut now: u32 = 0;
        // SAFETY: stores the control word; `now` outlives the instruction.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut now, options(nostack)) };
        // Loading it stalls the pipeline; nearly always there is nothing to load.
        if now & !STICKY != default {
            // SAFETY: loads the state that Rust assumes; `default` outlives the instruction.
            unsafe {
                std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const default, options(nostack, readonly))
            };
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: writes the state that Rust assumes.
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) 0u64, options(nostack, nomem));
    }
}

/// The tightest CPU quota of the process's cgroups, in processors, or `None` when there is none (cgroup v2 `cpu.max`,
/// v1 `cpu.cfs_quota_us`).
pub fn cgroup_quota() -> Option<f64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().filter_map(quota_of_line).min_by(f64::total_cmp)
}

/// A line of `/proc/self/cgroup` is `hierarchy:controllers:path`; an empty list of controllers means version 2.
fn quota_of_line(line: &str) -> Option<f64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.trim_start_matches('/');
    if controllers.is_empty() {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        return roots.iter().filter_map(|root| chain(Path::new(root), path, quota_v2)).min_by(f64::total_cmp);
    }
    let ours = controllers.split(',').any(|c| c == "cpu");
    ours.then(|| chain(Path::new("/sys/fs/cgroup/cpu"), path, quota_v1)).flatten()
}

/// The tightest quota of a cgroup and all above it: a limit on a parent binds its children.
fn chain(root: &Path, path: &str, quota: fn(&Path) -> Option<f64>) -> Option<f64> {
    let mut dir: PathBuf = root.join(path);
    let mut tightest: Option<f64> = None;
    loop {
        if let Some(found) = quota(&dir) {
            tightest = Some(tightest.map_or(found, |t| t.min(found)));
        }
        if dir == root || !dir.pop() || !dir.starts_with(root) {
            return tightest;
        }
    }
}

fn quota_v2(dir: &Path) -> Option<f64> {
    parse_v2(&fs::read_to_string(dir.join("cpu.max")).ok()?)
}

fn parse_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn quota_v1(dir: &Path) -> Option<f64> {
    let read = |name| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<f64>().ok();
    let (quota, period) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_of_processors_and_max_is_none() {
        assert_eq!(parse_v2("150000 100000\n"), Some(1.5));
        assert_eq!(parse_v2("max 100000\n"), None);
        assert_eq!(parse_v2(""), None);
    }

    #[test]
    fn at_least_one_processor() {
        assert!(affinity_count() >= 1);
    }
}
