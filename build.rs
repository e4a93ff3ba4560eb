//! Build steps that Cargo cannot express in its manifest.

fn main() {
    export_toyvm_layout();
}

/// Puts the toy VM's layout description into the executable's dynamic symbol table, where outside readers look for it.
fn export_toyvm_layout() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=gilscope_toyvm");
}
