//! What the daemon says to the agent on the kernel's command line (docs/architecture.md, "Kernel command line").

/// The parameters the agent knows; every other one is the kernel's or another program's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `rorqual.machine`: name of the machine, which becomes the hostname.
    pub(crate) machine: String,
    /// `rorqual.log`: filter of the agent's own log.
    pub(crate) log: String,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self { machine: "rorqual".to_owned(), log: "info".to_owned() }
    }
}

impl CommandLine {
    /// Reads the text of `/proc/cmdline`. The last of a repeated parameter counts, as the kernel does it; an empty or
    /// unusable machine name leaves the default, since a guest without its name still works.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for word in words(text) {
            match word.split_once('=') {
                Some(("rorqual.machine", name)) if is_hostname(name) => name.clone_into(&mut parsed.machine),
                Some(("rorqual.log", filter)) if !filter.is_empty() => filter.clone_into(&mut parsed.log),
                _ => {}
            }
        }
        parsed
    }
}

/// Splits at white space; double quotes keep it in a word, as the kernel's own parser has it.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            _ if character.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn is_hostname(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_the_filter_are_read() {
        let parsed = CommandLine::parse("quiet rorqual.machine=default mem=2G rorqual.log=debug\n");
        assert_eq!(parsed, CommandLine { machine: "default".to_owned(), log: "debug".to_owned() });
    }

    #[test]
    fn nothing_said_leaves_the_defaults() {
        assert_eq!(CommandLine::parse("console=ttyS0 rorqual.machine rorqual.log="), CommandLine::default());
    }

    #[test]
    fn the_last_of_a_repeated_parameter_counts() {
        assert_eq!(CommandLine::parse("rorqual.machine=a rorqual.machine=b").machine, "b");
    }

    #[test]
    fn a_quoted_filter_may_hold_spaces() {
        assert_eq!(CommandLine::parse(r#"rorqual.log="info, h2=off" x"#).log, "info, h2=off");
    }

    #[test]
    fn a_name_that_cannot_be_a_hostname_is_left_out() {
        for name in ["a/b", "ü", &"x".repeat(64)] {
            assert_eq!(CommandLine::parse(&format!("rorqual.machine={name}")).machine, "rorqual", "{name}");
        }
    }
}
