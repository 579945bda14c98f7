use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// A file of Rust code.
#[derive(Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl Source {
    /// The lines of code with their numbers: without comments, and without the unit tests, which
    /// end a file.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Whether `word` stands anywhere in the file by itself, not as a part of a longer name.
    #[must_use]
    pub fn names(&self, word: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        self.text.match_indices(word).any(|(start, _)| {
            !self.text[..start].ends_with(is_part)
                && !self.text[start + word.len()..].starts_with(is_part)
        })
    }
}

/// All Rust files in `folder` and below, in the order of their paths.
///
/// # Errors
///
/// [`Error::Read`] if the folder or one of its files cannot be read.
pub fn sources(folder: &Path) -> Result<Vec<Source>, Error> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(reading(&folder))? {
            let path = entry.map_err(reading(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).map_err(reading(&path))?;
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn reading(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Read { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: PathBuf::from("x.rs"),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_word_is_not_found_inside_a_longer_one() {
        let check = |text, found| assert_eq!(source(text).names("url"), found, "{text}");
        check("use url::Url;", true);
        check("let curl = url_of(x);", false);
        check("url", true);
    }

    #[test]
    fn code_is_without_comments_and_unit_tests() {
        let source = source("// one\nlet two;\n    /// three\n#[cfg(test)]\nlet five;\n");
        assert_eq!(source.code().collect::<Vec<_>>(), [(2, "let two;")]);
    }
}
