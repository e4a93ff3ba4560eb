//! The measured part of docs/permissions.md: the kind of machine, the table, and what gilscope says where it does not work.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{
    cell::Cell,
    situation::{Mode, Rung, Situation},
};

const BEGIN: &str = "<!-- measured: tests/permissions writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Each cell by mode, rung and number of the situation.
pub type Cells = BTreeMap<(&'static str, String, usize), Cell>;

/// The document.
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    pub fn read() -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/permissions.md");
        let text = fs::read_to_string(&path).expect("docs/permissions.md");
        Self { path, text }
    }

    fn measured(&self) -> Option<&str> {
        Some(self.text.split_once(BEGIN)?.1.split_once(END)?.0)
    }

    pub fn facts(&self) -> Option<&str> {
        self.measured()?.split_once("\n\n").map(|(facts, _)| facts)
    }

    pub fn table(&self) -> Option<&str> {
        self.measured()?.split_once("\n\n").map(|(_, table)| table)
    }

    pub fn write(&self, facts: &str, table: &str) {
        let (before, rest) = self.text.split_once(BEGIN).expect("the document has a measured part");
        let (_, after) = rest.split_once(END).expect("the measured part has an end");
        fs::write(&self.path, format!("{before}{BEGIN}{facts}\n\n{table}{END}{after}"))
            .expect("the document is writable");
    }
}

/// What of the machine decides what the table says.
pub fn facts() -> String {
    let setting =
        |path: &str| fs::read_to_string(path).map_or_else(|_| "absent".to_owned(), |text| text.trim().to_owned());
    let release = setting("/proc/sys/kernel/osrelease");
    let series: Vec<&str> = release.split(['.', '-']).take(2).collect();
    format!(
        "Linux {}, kernel.perf_event_paranoid {}, kernel.yama.ptrace_scope {}, kernel.unprivileged_bpf_disabled {}, lockdown {}",
        series.join("."),
        setting("/proc/sys/kernel/perf_event_paranoid"),
        setting("/proc/sys/kernel/yama/ptrace_scope"),
        setting("/proc/sys/kernel/unprivileged_bpf_disabled"),
        setting("/sys/kernel/security/lockdown"),
    )
}

/// The table and its notes.
pub fn table(cells: &Cells, rungs: &[Rung]) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut lines = vec![format!("| | {} |", Situation::ALL.map(Situation::words).join(" | "))];
    lines.push(format!("|---{}|", "|---".repeat(Situation::ALL.len())));
    for mode in [Mode::Run, Mode::AttachOwn] {
        for rung in rungs.iter().filter(|rung| rung.fits(mode)) {
            let cell = |column| shown(cells.get(&(mode.row(), rung.name.clone(), column)), &mut notes);
            let row: Vec<String> = (0..Situation::ALL.len()).map(cell).collect();
            lines.push(format!("| `{} --backend {}` | {} |", mode.row(), rung.name, row.join(" | ")));
        }
    }
    let notes = notes.iter().zip(1..).map(|(note, number)| format!("{number}. {note}\n"));
    format!("{}\n\n{}", lines.join("\n"), notes.collect::<String>())
}

fn shown(cell: Option<&Cell>, notes: &mut Vec<String>) -> String {
    match (cell, cell.and_then(Cell::words)) {
        (None, _) => String::new(),
        (Some(Cell::Works { exact: true, .. }), _) => "works".to_owned(),
        (Some(Cell::Works { .. }), _) => "works, an estimate".to_owned(),
        (_, None) => "wrong".to_owned(),
        (_, Some(words)) => {
            let known = notes.iter().position(|note| *note == words).unwrap_or_else(|| {
                notes.push(words);
                notes.len() - 1
            });
            format!("no ({})", known + 1)
        }
    }
}
