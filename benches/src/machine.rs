//! What a figure was measured on.

/// One line: processor, processors in use, kernel.
pub fn line() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpus = swath_platform::cpu::affinity_count();
    format!("{}, {cpus} processors, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}
