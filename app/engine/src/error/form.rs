//! Checks the form of the text a user reads when something failed. The tests of each crate walk all their errors
//! through it, so it is not test code itself.

use super::Failure;

/// The first word of an advice that is an instruction.
const VERBS: &[&str] = &[
    "add",
    "allow",
    "build",
    "check",
    "choose",
    "close",
    "connect",
    "copy",
    "correct",
    "create",
    "delete",
    "disconnect",
    "end",
    "enter",
    "find",
    "free",
    "give",
    "install",
    "join",
    "kill",
    "list",
    "load",
    "log",
    "make",
    "move",
    "name",
    "open",
    "publish",
    "put",
    "quit",
    "raise",
    "read",
    "reload",
    "remove",
    "replace",
    "restart",
    "resume",
    "review",
    "run",
    "set",
    "start",
    "stop",
    "try",
    "turn",
    "type",
    "use",
    "wait",
    "write",
];
/// First words of a message that keep their capital letter.
const NAMES: &[&str] = &["Docker", "Rorqual", "RORQUAL_HOME", "IPv6", "TCP", "UDP"];

/// The defects in the form of `failure`, for the developer who corrects them; empty if there are none.
pub fn faults(failure: &Failure) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{what}: {failure:?}"));
        }
    };
    let Failure { code, message, fix } = failure;
    expect(is_code(code), "the code is not lower-case words joined by hyphens");
    expect(is_sentence(message), "the message is empty, has several lines, or ends with a stop");
    expect(begins_small(message), "the message begins with a capital letter");
    let advice_in_message = message.split("; ").skip(1).any(is_instruction);
    expect(!advice_in_message, "the message ends with an instruction");
    if let Some(fix) = fix {
        expect(is_sentence(fix), "the advice is empty, has several lines, or ends with a stop");
        expect(is_instruction(fix), "the advice is not an instruction");
    }
    faults
}

/// Samples of an error, at least one of each variant: `one_of_each!(Error { Variant => Error::Variant, … })`. A variant
/// without a sample does not compile, so no test that walks them forgets one.
#[macro_export]
macro_rules! one_of_each {
    ($error:ident { $($variant:ident => $sample:expr),+ $(,)? }) => {{
        #[allow(unreachable_patterns, reason = "a variant may have several samples")]
        let complete = |error: &$error| match error {
            $($error::$variant { .. } => {})+
        };
        let samples = vec![$($sample),+];
        samples.iter().for_each(complete);
        samples
    }};
}

fn is_code(code: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    code.split('-').all(word)
}

fn is_sentence(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains('\n') && !text.ends_with(['.', ';', ':', ','])
}

fn begins_small(text: &str) -> bool {
    let word = text.split([' ', ':', ',']).next().unwrap_or_default();
    NAMES.contains(&word) || !text.starts_with(char::is_uppercase)
}

/// Whether `text` begins with a verb that instructs, or with a command in backticks. `const`, so that literals can be
/// checked when they compile.
pub const fn is_instruction(text: &str) -> bool {
    let text = text.as_bytes();
    if !text.is_empty() && text[0] == b'`' {
        return true;
    }
    let mut index = 0;
    while index < VERBS.len() {
        if is_first_word(VERBS[index].as_bytes(), text) {
            return true;
        }
        index += 1;
    }
    false
}

const fn is_first_word(word: &[u8], text: &[u8]) -> bool {
    if text.len() < word.len() {
        return false;
    }
    let mut index = 0;
    while index < word.len() {
        if text[index] != word[index] {
            return false;
        }
        index += 1;
    }
    text.len() == word.len() || matches!(text[word.len()], b' ' | b':' | b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, message: &str, fix: Option<&str>) -> Failure {
        Failure { code: code.to_owned(), message: message.to_owned(), fix: fix.map(str::to_owned) }
    }

    #[test]
    fn what_has_the_form_has_no_faults() {
        for good in [
            failure("a", "cannot open /x: no such file", Some("create it")),
            failure("port-in-use", "Docker does not answer: it is busy; it was asked twice", None),
            failure("x-1", "no rights", Some("`sudo make` helps")),
        ] {
            assert_eq!(faults(&good), [""; 0]);
        }
    }

    #[test]
    fn each_fault_is_found() {
        for bad in [
            failure("Config_Invalid", "m", None),
            failure("a-", "m", None),
            failure("a", "", None),
            failure("a", "it failed.", None),
            failure("a", "it failed\nbadly", None),
            failure("a", "It failed", None),
            failure("a", "it failed; try again", None),
            failure("a", "it failed", Some("")),
            failure("a", "it failed", Some("try again.")),
            failure("a", "it failed", Some("it is best to try again")),
        ] {
            assert_eq!(faults(&bad).len(), if bad.fix.as_deref() == Some("") { 2 } else { 1 }, "{bad:?}");
        }
    }
}
