use std::{fs, process::Command};

use tidy::Workspace;

use crate::check;

/// What people write is smaller, plots included.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

#[test]
fn nothing_that_was_built_is_kept() {
    let workspace = Workspace::load().unwrap();
    if !workspace.root().join(".git").exists() {
        // A source archive holds what the repository held.
        return;
    }
    let kept = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(workspace.root())
        .output()
        .unwrap();
    assert!(kept.status.success());
    let kept = String::from_utf8(kept.stdout).unwrap();
    let files: Vec<_> = kept
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    assert!(files.iter().any(|path| path == "Cargo.toml"));
    check(
        "files that were built, or that are larger than a megabyte",
        files.into_iter().filter(|path| {
            let is_built = path.split('/').any(|folder| folder == "target");
            // One that is deleted and not committed yet has no size.
            let size = fs::metadata(workspace.root().join(path)).map_or(0, |file| file.len());
            is_built || size > MAX_FILE_BYTES
        }),
    );
}
