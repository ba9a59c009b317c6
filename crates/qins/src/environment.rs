//! The machine a command runs on.

use std::fs;

use qins_eval::report::Environment;

use crate::args::DeviceArgs;

/// Describes the machine.
pub(crate) fn environment(device: &DeviceArgs) -> Environment {
    Environment {
        qins: env!("CARGO_PKG_VERSION").to_owned(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cpu: cpu(),
        threads: rayon::current_num_threads(),
        backend: match device.backend.card() {
            Some(card) => format!("{} on {card}", device.backend),
            None => device.backend.to_string(),
        },
        peak_rss_bytes: peak_rss_bytes(),
    }
}

/// The processor's name, where the system reports it.
pub(crate) fn cpu() -> Option<String> {
    field("/proc/cpuinfo", "model name").map(|name| name.trim().to_owned())
}

/// Peak resident set size (peak RSS) of this process in bytes, where the system reports it.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    bytes(&field("/proc/self/status", "VmHWM")?)
}

/// An entry of /proc/meminfo in bytes, where the system has it.
pub(crate) fn memory(name: &str) -> Option<u64> {
    bytes(&field("/proc/meminfo", name)?)
}

/// Linux's setting of transparent huge pages: `always`, `madvise`, as the allocator asks, or `never`.
pub(crate) fn huge_pages() -> Option<String> {
    let settings = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    Some(settings.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn bytes(kib: &str) -> Option<u64> {
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The first `name: value` of a file under /proc.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.to_owned())
}
