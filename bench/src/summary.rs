//! The figures of a run, as one flat object of `target/bench/summary.json`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};

/// Figures by name.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Summary(Map<String, Value>);

impl Summary {
    /// Adds a figure, or replaces it. What is no number (a share of nothing) is left out.
    pub fn put(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.0.insert(name.into(), value.into());
        }
    }

    /// Adds a text.
    pub fn note(&mut self, name: &str, text: impl Into<String>) {
        self.0.insert(name.into(), Value::String(text.into()));
    }

    /// A figure.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// Adds one figure over another, if both are there.
    pub fn put_ratio(&mut self, name: &str, of: &str, to: &str) {
        if let (Some(of), Some(to)) = (self.figure(of), self.figure(to)) {
            self.put(name, of / to);
        }
    }

    /// Reads what [`Summary::write`] wrote.
    ///
    /// # Errors
    /// When it is not there, or no flat object.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self(serde_json::from_str(&text)?))
    }

    /// Writes the object, its folder too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(&Value::Object(self.0.clone()))?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_want_both_figures() {
        let mut summary = Summary::default();
        summary.put("a", 3.0);
        summary.put("b", 4.0);
        summary.put("nothing", f64::NAN);
        summary.put_ratio("a_to_b", "a", "b");
        summary.put_ratio("a_to_c", "a", "c");
        assert_eq!(summary.figure("a_to_b"), Some(0.75));
        assert_eq!((summary.figure("a_to_c"), summary.figure("nothing")), (None, None));
    }
}
