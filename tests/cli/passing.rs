//! The program sees what it would see without gilscope.

use std::{
    fs::{self, File},
    io::Write,
    process::{Command, Output, Stdio},
};

use crate::{
    live::interpreters::usual,
    place::{Place, backends, patiently},
};

/// Prints its circumstances: nothing may tell that it is observed.
const SHOW: &str = "
import os, signal, sys
files = {}
for name in os.listdir('/proc/self/fd'):
    try: files[int(name)] = os.readlink('/proc/self/fd/' + name).split(':')[0]
    except OSError: pass
signals = {s.name: str(signal.getsignal(s)) for s in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
ours = {k: v for k, v in os.environ.items() if k != '_'}
facts = {'files': sorted(files.items()), 'signals': signals, 'blocked': blocked, 'umask': os.umask(0), 'nice': os.nice(0),
         'argv': sys.argv, 'cwd': os.getcwd(), 'foreground': os.getpgid(0) == os.getpgid(os.getppid())}
for name, fact in sorted({**facts, **ours}.items()): print(name, repr(fact))
";

/// Everything that can be given along: an open file, an ignored signal, an odd environment.
const SHELL: &str = "exec 7<show.py; trap '' HUP INT; umask 027; GILSCOPE_MINE=1 ODD='a b
c' exec \"$@\"";

fn within_shell(place: &Place, command: &Command) -> Output {
    let mut shell = place.prepared(Command::new("bash"));
    shell.args(["-c", SHELL, "bash"]).arg(command.get_program()).args(command.get_args());
    patiently("the program", move || shell.output().unwrap())
}

#[test]
fn arguments_environment_files_and_signals_are_unchanged() {
    let place = Place::new();
    place.file("show.py", SHOW);
    let odd = ["show.py", "", "a b", "-d", "--", "größe", "*"];
    let alone = within_shell(&place, usual().command().args(odd));
    assert!(alone.status.success(), "{alone:?}");
    for backend in backends() {
        let mut command = place.gilscope(&format!("run -q --backend {backend} -o p.json"));
        let observed = within_shell(&place, command.args(odd));
        let [alone, observed] = [&alone, &observed].map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        assert!(alone.lines().count() > 15, "{alone}");
        let differing: Vec<_> =
            alone.lines().zip(observed.lines()).filter(|(alone, observed)| alone != observed).collect();
        assert!(alone == observed, "{backend}: {differing:?}");
    }
}

#[test]
fn streams_pass_byte_for_byte() {
    let place = Place::new();
    place.file(
        "reverse.py",
        "import sys\ndata = sys.stdin.buffer.read()\nsys.stdout.buffer.write(data[::-1])\nsys.stderr.buffer.write(data[1:])",
    );
    let bytes: Vec<u8> = (0..=255).cycle().take(300_001).collect();
    for backend in backends() {
        let mut command = place.gilscope(&format!("run -q --backend {backend} -o p.json reverse.py"));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (mut input, given) = (child.stdin.take().unwrap(), bytes.clone());
        std::thread::spawn(move || input.write_all(&given));
        let output = patiently("the program", move || child.wait_with_output().unwrap());
        assert!(output.status.success(), "{backend}: {:?}", output.status);
        assert!(output.stdout.iter().rev().eq(&bytes), "{} bytes", output.stdout.len());
        assert!(output.stderr == bytes[1..], "{} bytes", output.stderr.len());
    }
}

#[test]
fn a_closed_standard_input_stays_empty() {
    let place = Place::new();
    place.file("read.py", "import sys\nprint(repr(sys.stdin and sys.stdin.read()))");
    let mut shell = place.prepared(Command::new("bash"));
    let words = ["-c", "exec \"$@\" <&-", "bash", env!("CARGO_BIN_EXE_gilscope"), "run", "-q", "read.py"];
    let output = patiently("the program", move || shell.args(words).output().unwrap());
    assert!(output.status.success(), "{output:?}");
    assert!(["''\n", "None\n"].contains(&&*String::from_utf8_lossy(&output.stdout)), "{output:?}");
}

#[test]
fn output_goes_where_the_program_sends_it() {
    let place = Place::new();
    let mut command = place.gilscope("run -q -o p.json spin.py 0.1");
    command.stdout(File::create(place.path("out")).unwrap()).stderr(File::create(place.path("err")).unwrap());
    assert!(patiently("the program", move || command.status().unwrap()).success());
    assert_eq!((place.read("out"), place.read("err")), ("ready\ndone\n".to_owned(), String::new()));
    assert!(fs::metadata(place.path("p.json")).unwrap().len() > 1000);
}
