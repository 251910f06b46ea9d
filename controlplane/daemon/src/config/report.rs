//! What is wrong with a configuration, said so that a person finds the place: file, line, field, cause.
//!
//! ```text
//! ain1.toml:42: neighbours[1].ah_in.key: 15 bytes where aes-128-gmac takes 20 (16 of key, 4 of salt)
//! ```
//!
//! Checks go on after a problem, so that one run shows as many as it can.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File it is in.
    pub file: PathBuf,
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// Field, as in `neighbours[1].ah_in.key`; empty when the file as a whole is meant.
    pub field: String,
    /// What is wrong with it. Never holds a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong, in the order found; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let newline = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "error: {problem}{newline}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// One problem with a file as a whole.
    pub fn of_file(file: &Path, message: impl fmt::Display) -> Self {
        Self(vec![Problem {
            file: file.to_owned(),
            line: 0,
            field: String::new(),
            message: message.to_string(),
        }])
    }
}

/// Collects what is wrong with one file. Holds the places of its lines, not its text, which has keys in it.
#[derive(Debug)]
pub struct Checker {
    file: PathBuf,
    line_starts: Vec<usize>,
    found: Vec<Problem>,
}

impl Checker {
    /// For the file `file` with the content `text`.
    pub fn new(file: &Path, text: &str) -> Self {
        let after_newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Self {
            file: file.to_owned(),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            found: Vec::new(),
        }
    }

    /// The file under check.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A path written in the file: relative ones count from the file's directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.file
            .parent()
            .map_or_else(|| path.to_owned(), |directory| directory.join(path))
    }

    /// Line that holds the byte at `offset`, from 1.
    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Notes a problem with `field`, written at `span`.
    pub fn at(&mut self, span: Range<usize>, field: impl Into<String>, message: impl fmt::Display) {
        let line = self.line(span.start);
        self.found.push(Problem {
            file: self.file.clone(),
            line,
            field: field.into(),
            message: message.to_string(),
        });
    }

    /// Notes a problem with the file as a whole.
    pub fn whole(&mut self, message: impl fmt::Display) {
        self.found.extend(Problems::of_file(&self.file, message).0);
    }

    /// Whether any problem was found so far.
    pub fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// Takes over the problems of a file that this one names.
    pub fn adopt(&mut self, others: Problems) {
        self.found.extend(others.0);
    }

    /// `value` if nothing was found.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ if self.found.is_empty() => Err(Problems::of_file(&self.file, "not valid")),
            _ => Err(Problems(self.found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_line_and_field_of_every_problem() {
        let mut checker = Checker::new(Path::new("dir/a.toml"), "one\ntwo\n\nfour");
        checker.at(0..1, "one", "first");
        checker.at(4..5, "two", "second");
        checker.at(9..10, "four.x", "third");
        let problems = checker.finish(Some(())).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "error: dir/a.toml:1: one: first\nerror: dir/a.toml:2: two: second\nerror: dir/a.toml:4: four.x: third"
        );
    }

    #[test]
    fn paths_count_from_the_file() {
        let checker = Checker::new(Path::new("/etc/ain/ain.toml"), "");
        assert_eq!(
            checker.resolve(Path::new("identity.key")),
            Path::new("/etc/ain/identity.key")
        );
        assert_eq!(
            checker.resolve(Path::new("/keys/identity.key")),
            Path::new("/keys/identity.key")
        );
    }
}
