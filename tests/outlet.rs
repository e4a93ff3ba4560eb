//! The output file: bad paths fail at once, nothing is lost and nothing is left behind when a recording fails.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use gilscope::{
    model::profile::Profile,
    report::{
        Format, Report, ReportError,
        outlet::{Destination, Outlet, OutletError},
        view::View,
    },
};
use tempfile::TempDir;

fn open(path: &Path) -> Result<Outlet, OutletError> {
    Outlet::open(&Destination::File(path.to_owned()))
}

fn fill(path: &Path) {
    let report = Format::Folded.report(View::All);
    open(path).unwrap().fill(&*report, &support::shop()).unwrap();
}

fn content(folder: &TempDir) -> Vec<String> {
    fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A report that breaks off in the middle.
#[derive(Debug)]
struct Broken;

impl Report for Broken {
    fn write(&self, _: &Profile, out: &mut dyn io::Write) -> Result<(), ReportError> {
        out.write_all(b"half")?;
        Err(ReportError::Write(io::Error::other("broken")))
    }
}

#[test]
fn paths_that_cannot_be_written_are_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| format!("{:#}", anyhow::Error::new(open(path).unwrap_err()));
    let missing = folder.path().join("no/such/x.svg");
    let parent = missing.parent().unwrap().display();
    let expected = format!("create `{}`: the folder `{parent}` does not exist", missing.display());
    assert_eq!(said(&missing), expected);
    let expected = format!("write to `{}`: it is a folder", folder.path().display());
    assert_eq!(said(folder.path()), expected);
    fs::write(folder.path().join("file"), "").unwrap();
    let under_file = folder.path().join("file/x.svg");
    assert!(said(&under_file).ends_with("for writing: Not a directory (os error 20)"), "{}", said(&under_file));
    assert!(said(Path::new("/proc/x.svg")).starts_with("open `/proc/x.svg` for writing: "));
    assert_eq!(content(&folder), ["file"]);
}

#[test]
fn a_recording_that_fails_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.svg");
    let outlet = open(&path).unwrap();
    assert_eq!(content(&folder), [""; 0], "nor does one that is killed");
    drop(outlet);
    open(&path).unwrap().fill(&Broken, &support::shop()).unwrap_err();
    assert_eq!(content(&folder), [""; 0]);
}

#[test]
fn an_existing_file_survives_until_the_new_report_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.folded");
    let old = "old ".repeat(10_000);
    fs::write(&path, &old).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), old);
    open(&path).unwrap().fill(&Broken, &support::shop()).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), old);
    fill(&path);
    let new = fs::read_to_string(&path).unwrap();
    assert!(new.starts_with("python3 (tid 4242);") && !new.contains("old "));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn links_and_devices_are_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let (link, target) = (folder.path().join("link.svg"), folder.path().join("target.svg"));
    symlink(&target, &link).unwrap();
    drop(open(&link).unwrap());
    assert_eq!(content(&folder), ["link.svg"], "the link stays, what it led to does not");
    fill(&link);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("worker-0"));
    fill(Path::new("/dev/null"));
    assert!(Path::new("/dev/null").exists());
}

#[test]
fn a_file_that_another_program_puts_there_meanwhile_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.svg");
    let outlet = open(&path).unwrap();
    fs::write(&path, "theirs").unwrap();
    drop(outlet);
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}
