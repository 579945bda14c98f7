use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::Error;

/// The workspace and every package that is linked into it on this machine.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
}

/// One package, of the workspace or from elsewhere.
#[derive(Debug, Deserialize)]
pub struct Package {
    id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as an SPDX expression.
    pub license: Option<String>,
    /// Where it comes from; nothing for a folder of this workspace.
    pub source: Option<String>,
    /// What it declares to depend on.
    pub dependencies: Vec<Dependency>,
    manifest_path: PathBuf,
}

/// A declared dependency.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The name of the package.
    pub name: String,
    /// What it is needed for.
    #[serde(deserialize_with = "kind")]
    pub kind: Kind,
    /// The folder, for a dependency within the workspace.
    pub path: Option<PathBuf>,
}

/// What a dependency is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By the code itself.
    Normal,
    /// By tests, examples and benches.
    Dev,
    /// By the build script.
    Build,
}

/// Cargo says `null` for a normal dependency.
fn kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    Option::deserialize(deserializer).map(|kind| kind.unwrap_or(Kind::Normal))
}

impl Workspace {
    /// Reads the workspace that this crate belongs to.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] or [`Error::Failed`] if cargo cannot say, for example because the lock file
    /// is out of date; [`Error::Metadata`] if it says something unknown.
    pub fn load() -> Result<Self, Error> {
        let arguments = [
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
        ];
        let metadata = run(cargo().args(arguments).arg(host()?).current_dir(folder()))?;
        Ok(serde_json::from_slice(&metadata)?)
    }

    /// The names of all packages that are linked into the workspace's code and build scripts on
    /// this platform, with every feature on. ([`packages`](Self::packages) also has packages that
    /// no feature in use asks for.)
    ///
    /// # Errors
    ///
    /// [`Error::Run`] or [`Error::Failed`] if cargo cannot say.
    pub fn linked(&self) -> Result<BTreeSet<String>, Error> {
        let arguments = [
            "tree",
            "--locked",
            "--workspace",
            "--all-features",
            "--edges=normal,build",
        ];
        let format = ["--prefix=none", "--format={p}"];
        let tree = run(cargo()
            .args(arguments)
            .args(format)
            .current_dir(self.root()))?;
        let tree = String::from_utf8_lossy(&tree);
        Ok(tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect())
    }

    /// The folder of the workspace.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.workspace_root
    }

    /// The packages of this workspace.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// The package of this workspace with this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Package> {
        self.members().find(|package| package.name == name)
    }

    /// Every package of the tree: the members, and all that they link in on this platform.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }
}

impl Package {
    /// The folder of the package.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.manifest_path
            .parent()
            .expect("a manifest is in a folder")
    }

    /// The dependencies of one kind.
    pub fn needs(&self, kind: Kind) -> impl Iterator<Item = &Dependency> {
        self.dependencies
            .iter()
            .filter(move |dependency| dependency.kind == kind)
    }
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A folder of the workspace: that of the crate under test, which cargo names at run time. What it
/// was at compile time may have moved.
fn folder() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// The platform that the compiler builds for when it is not told.
fn host() -> Result<String, Error> {
    let version = run(Command::new("rustc").arg("-vV").current_dir(folder()))?;
    let version = String::from_utf8_lossy(&version);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Error::Failed {
        program: "rustc -vV".to_owned(),
        stderr: "it names no host".to_owned(),
    })
}

fn run(command: &mut Command) -> Result<Vec<u8>, Error> {
    let program = command.get_program().display().to_string();
    match command.output() {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Error::Failed { program, stderr })
        }
        Err(source) => Err(Error::Run { program, source }),
    }
}
