//! The outcome of a change to a trust store, and the quoting of its commands.

/// The outcome of a change to one store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The store is in the requested state.
    Done,
    /// The user must run this command to complete the change.
    Todo(String),
}

/// Quotes a word for a shell's command line, if it needs quotes.
pub(super) fn quoted(word: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "/._-:=".contains(sign);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_command_is_one_word() {
        assert_eq!(quoted("/home/a/.rorqual/https/ca.pem"), "/home/a/.rorqual/https/ca.pem");
        assert_eq!(quoted("/home/a b/it's"), r"'/home/a b/it'\''s'");
    }
}
