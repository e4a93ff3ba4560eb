//! One run of gilscope on a liar, and what every such run must keep to.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Whatever ends later hangs: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// CPU time of a run, in hundredths of a second. The recording takes a third of a second.
const MOST_CPU: u64 = 230;
/// Resident memory at its highest, in KiB.
const MOST_MEMORY: u64 = 200 << 10;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// gilscope's exit code.
    pub code: i32,
    /// What it said.
    pub said: String,
    /// The text report.
    pub text: String,
    /// The profile; null when there is none.
    pub json: serde_json::Value,
}

/// Runs gilscope with these words, and a text report and a profile in `folder`, and checks what holds for every run.
pub fn observe(what: &str, folder: &Path, mut command: Command, words: &[&str]) -> Outcome {
    let paths = ["text", "json", "said"].map(|name| folder.join(format!("{what}.{name}")));
    let [text, json, said] = &paths;
    command.args(&words[..1]).args(["-f", "text", "-o"]).arg(text).arg("--json").arg(json).args(&words[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(said).unwrap());
    let mut child = command.spawn().expect("gilscope starts");
    let (begun, mut peak, mut cpu) = (Instant::now(), 0, 0);
    let status = loop {
        peak = peak.max(peak_of(child.id()).unwrap_or(0));
        cpu = cpu.max(cpu_of(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: no end: {}", read(said));
        }
        sleep(Duration::from_millis(5));
    };
    let (said, text) = (read(said), read(text));
    println!("{what}: {status}, {} MB, {cpu} ticks: {}", peak >> 10, said.lines().next().unwrap_or_default());
    let code = status.code().unwrap_or_else(|| panic!("{what}: {status}: {said}"));
    // A launched program that ends by a signal does so after its own lies.
    let by_signal = words[0] == "run" && code > 128 && said.contains("gilscope: wrote");
    assert!(([0, 1].contains(&code) || by_signal) && !said.contains("panicked"), "{what}: {status}: {said}");
    assert!(peak < MOST_MEMORY, "{what}: {peak} KiB");
    assert!(cpu < MOST_CPU, "{what}: {cpu} hundredths of a second");
    for shown in [&said, &text] {
        let bad: String = shown.chars().filter(|shown| shown.is_control() && *shown != '\n').collect();
        assert_eq!(bad, "", "{what}: {shown}");
    }
    let json = fs::read(json).ok().filter(|bytes| !bytes.is_empty());
    let json = json.map_or(serde_json::Value::Null, |bytes| serde_json::from_slice(&bytes).expect("JSON"));
    if code != 1 {
        assert_eq!(json["quality"]["invariants_broken"], serde_json::json!([]), "{what}");
    } else {
        assert_eq!(said.lines().filter(|line| line.contains("error: ")).count(), 1, "{what}: {said}");
    }
    Outcome { code, said, text, json }
}

/// gilscope as it is.
pub fn gilscope() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gilscope"))
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let _absent = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn peak_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn cpu_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}
