//! Output of a benchmark.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

/// Number of line colours.
pub(crate) const COLOURS: usize = 10;

/// Colours follow the reader's light or dark mode; renderers without modes use the light one.
pub(crate) const STYLE: &str = "
.back { fill: #fff } text { fill: #1f2328 } .ours { fill: #0b62d6 } .others { fill: #6b7280 }
.grid { stroke: #d5d9de } polyline { fill: none; stroke-width: 1.5 } .theory { stroke-dasharray: 4 4 }
.c0 { stroke: #6b7280; color: #6b7280 } .c1 { stroke: #0b62d6; color: #0b62d6 } .c2 { stroke: #b35900; color: #b35900 }
.c3 { stroke: #2e7d32; color: #2e7d32 } .c4 { stroke: #8e24aa; color: #8e24aa } .c5 { stroke: #00838f; color: #00838f }
.c6 { stroke: #c62828; color: #c62828 } .c7 { stroke: #795548; color: #795548 } .c8 { stroke: #ad1457; color: #ad1457 }
.c9 { stroke: #827717; color: #827717 } circle { fill: currentcolor } text[class] { stroke: none; fill: currentcolor; font-weight: bold }
@media (prefers-color-scheme: dark) {
  .back { fill: #0d1117 } text { fill: #e6edf3 } .ours { fill: #58a6ff } .others { fill: #9aa4af } .grid { stroke: #30363d }
  .c0 { stroke: #9aa4af; color: #9aa4af } .c1 { stroke: #58a6ff; color: #58a6ff } .c2 { stroke: #f0a050; color: #f0a050 }
  .c3 { stroke: #6cc070; color: #6cc070 } .c4 { stroke: #d08be0; color: #d08be0 } .c5 { stroke: #4dd0e1; color: #4dd0e1 }
  .c6 { stroke: #ef7b7b; color: #ef7b7b } .c7 { stroke: #bc9a8d; color: #bc9a8d } .c8 { stroke: #f06fa7; color: #f06fa7 }
  .c9 { stroke: #d4cf6a; color: #d4cf6a }
}";

/// Writes a file, and creates its folder if needed.
pub(crate) fn written(path: &Path, text: String) -> Result<(), String> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).and_then(|()| fs::write(path, text)).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes the measurements as JSON beside their plot.
pub(crate) fn figures(plot: &Path, runs: &impl Serialize) -> Result<(), String> {
    let figures = serde_json::to_string_pretty(runs).map_err(|e| e.to_string())?;
    written(&plot.with_extension("json"), figures + "\n")
}

/// Prints the table, and the path of the plot.
pub(crate) fn print(table: &str, plot: &Path) -> Result<(), String> {
    let mut out = io::stdout().lock();
    write!(out, "{table}").and_then(|()| writeln!(out, "\nplot: {}", plot.display())).or_else(
        // A reader that closed the pipe, such as `head`, needs no message.
        |e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e.to_string()) },
    )
}
