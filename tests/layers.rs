//! The direction of imports: which module may use which is a short list, and there are no cycles.

use std::{collections::BTreeSet, fs, path::Path};

/// Each module with all it may import. `session` and `cli` wire the rest together: only `cli` imports `session`, and nothing `cli`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("estimate", &["model"]),
    ("target", &["model"]),
    ("native", &["model", "target"]),
    ("perf", &["model"]),
    ("bpf", &["model"]),
    ("ledger", &["model", "estimate"]),
    ("report", &["model"]),
    ("stack", &["model", "target", "perf"]),
    ("source", &["model", "estimate", "target", "perf", "bpf"]),
    ("toyvm", &[]),
    ("session", &["model", "estimate", "target", "perf", "bpf", "native", "source", "stack", "ledger", "report"]),
    ("cli", &["model", "report", "session", "toyvm"]),
    // For fuzz targets and properties alone: it feeds every parser.
    ("fuzzing", &["model", "target", "perf", "bpf", "native", "source", "stack", "ledger", "toyvm"]),
];

#[test]
fn imports_point_down_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in rust_files(&root) {
        let relative = file.strip_prefix(&root).expect("the file is below src");
        let module = relative.components().next().expect("a file has a name").as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            assert!(["lib", "main"].contains(&module.as_str()), "{module} is not in the list of modules");
            continue;
        };
        seen.insert(module.clone());
        for import in imports(&fs::read_to_string(&file).expect("the file is readable")) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", relative.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen.len() >= 9, "only found {seen:?}");
}

#[test]
fn the_list_itself_has_no_cycle() {
    for (position, (module, allowed)) in ALLOWED.iter().enumerate() {
        for import in *allowed {
            let earlier = ALLOWED[..position].iter().any(|(name, _)| name == import);
            assert!(earlier, "{module} may import {import}, which does not stand above it");
        }
    }
}

/// The first path segment of everything named through `crate::`, braces included.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, matched) in text.match_indices("crate::") {
        let rest = &text[at + matched.len()..];
        let group = rest.strip_prefix('{').map_or(rest, |inside| inside);
        let braced = group.len() != rest.len();
        let heads = if braced { top_level_items(group) } else { vec![rest.to_owned()] };
        let name = |item: &String| item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.extend(heads.iter().map(name).filter(|name: &String| !name.is_empty()));
    }
    found
}

/// The comma-separated items of a brace group, up to its closing brace, at depth one.
fn top_level_items(group: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ if depth == 0 => items.last_mut().expect("there is always one").push(c),
            _ => {}
        }
    }
    items
}

fn rust_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
