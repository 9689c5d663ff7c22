//! Tables in Markdown, and documents with a generated part.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

/// A table; each row has as many cells as `head`.
pub fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        // Writing to a `String` cannot fail.
        writeln!(text, "| {} |", row.join(" | ")).ok();
    }
    text
}

/// Replaces the text between the lines `begin` and `end` of the document at `path` with `text`.
pub fn write_between_marks(path: &Path, begin: &str, end: &str, text: &str) -> Result<()> {
    let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let changed = replace_between_marks(&document, begin, end, text)
        .with_context(|| format!("{} lacks the lines {begin} and {end}", path.display()))?;
    fs::write(path, changed).with_context(|| format!("cannot write {}", path.display()))
}

fn replace_between_marks(document: &str, begin: &str, end: &str, text: &str) -> Option<String> {
    let from = document.find(begin)? + begin.len();
    let to = from + document[from..].find(end)?;
    Some(format!("{}\n\n{text}\n{}", &document[..from], &document[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = "before\n<b>\nold\n<e>\nafter\n";
        let once = replace_between_marks(document, "<b>", "<e>", "new\n").unwrap();
        assert_eq!(once, "before\n<b>\n\nnew\n\n<e>\nafter\n");
        assert_eq!(replace_between_marks(&once, "<b>", "<e>", "new\n").unwrap(), once);
    }

    #[test]
    fn a_document_without_marks_is_left_alone() {
        assert_eq!(replace_between_marks("<e>", "<b>", "<e>", "new"), None);
    }

    #[test]
    fn a_table_has_a_column_for_each_heading() {
        assert_eq!(table(&["a", "b"], [vec!["1".into(), "2".into()]].into_iter()), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
