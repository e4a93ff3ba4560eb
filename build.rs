//! Build steps that Cargo cannot express in its manifest: the in-target probe, a shared object that the crate embeds, and
//! the executable's dynamic symbol table.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(family)");
    build_preload_probe();
    export_toyvm_layout();
}

/// Compiles `probes/preload` to `$OUT_DIR/libgilscope_probe.so`, and to `libgilscope_family_probe.so` the same with what
/// follows a program into the processes that it starts, which has a larger outer face; for processors it does not support, an empty file
/// stands there instead, and the source says so.
fn build_preload_probe() {
    println!("cargo::rerun-if-changed=probes/preload");
    let plain: [&str; 0] = [];
    for (name, features) in [("probe", &plain[..]), ("family_probe", &["--cfg", "family"])] {
        let object = PathBuf::from(variable("OUT_DIR")).join(format!("libgilscope_{name}.so"));
        if variable("CARGO_CFG_TARGET_ARCH") != "x86_64" {
            std::fs::write(&object, []).expect("the output directory is writable");
            continue;
        }
        let status = probe_compiler(&object).args(features).status().expect("rustc runs");
        assert!(status.success(), "the in-target probe does not compile");
    }
}

/// Puts the toy VM's layout description into the executable's dynamic symbol table, where outside readers look for it.
fn export_toyvm_layout() {
    println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=gilscope_toyvm");
}

fn probe_compiler(object: &Path) -> Command {
    let target = variable("TARGET");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--crate-name", "gilscope_probe", "--crate-type", "cdylib", "--edition", "2024"]);
    rustc.args(["--check-cfg", "cfg(family)", "--check-cfg", "cfg(test)"]);
    rustc.args(["--deny", "warnings", "--deny", "missing_docs", "--deny", "unsafe_op_in_unsafe_fn"]);
    rustc.args(["-C", "panic=abort", "-C", "opt-level=3", "-C", "codegen-units=1", "-C", "strip=symbols"]);
    rustc.args(["-C", "overflow-checks=off", "-C", "debug-assertions=off", "-C", "force-unwind-tables=yes"]);
    // No library and no start files: the probe must load into any libc. `defs` makes the linker refuse whatever would
    // have to come from one; only the weak references may stay open.
    rustc.args(["-C", "link-arg=-nostdlib", "-C", "link-arg=-nostartfiles"]);
    rustc.args(["-C", "link-arg=-Wl,-z,defs,-z,now,-z,relro,--hash-style=both,--build-id=none"]);
    if target.contains("musl") {
        rustc.args(["-C", "target-feature=-crt-static", "-C", "link-self-contained=no"]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    rustc.arg("--target").arg(target).arg("-o").arg(object).arg("probes/preload/probe.rs");
    rustc
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
