//! The environment dockerd gets from the host: the user's proxies, as variables.
//!
//! Before each start of dockerd the agent connects to [`ENVIRONMENT_PORT`](crate::ENVIRONMENT_PORT) of the host and
//! reads lines `NAME=value\n` to the end. A host that does not listen provides none.

/// The variables the host may send.
pub const NAMES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
/// Longest text either side accepts, in bytes.
pub const MAX_TEXT: usize = 16 * 1024;

/// The text for variables. Those with an empty value or a line break in it are left out.
pub fn text<'a>(variables: impl IntoIterator<Item = (&'static str, &'a str)>) -> String {
    let fits = |value: &str| !value.is_empty() && !value.contains(['\n', '\r', '\0']);
    let mut text = String::new();
    for (name, value) in variables {
        if NAMES.contains(&name) && fits(value) {
            text.extend([name, "=", value, "\n"]);
        }
    }
    text
}

/// Reads the text. Lines that are not a variable of [`NAMES`] are left out.
pub fn parse(text: &str) -> Vec<(&str, &str)> {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    variables.filter(|(name, _)| NAMES.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_read_back_as_they_were_written() {
        let variables = [("HTTP_PROXY", "http://u:p=q@proxy:3128"), ("NO_PROXY", "localhost,.corp")];
        assert_eq!(parse(&text(variables)), variables);
    }

    #[test]
    fn nothing_else_becomes_a_variable() {
        assert_eq!(text([("HTTP_PROXY", "a\nLD_PRELOAD=x"), ("NO_PROXY", "")]), "");
        assert_eq!(text([("PATH", "/tmp")]), "");
        assert_eq!(parse("LD_PRELOAD=/x\nHTTP_PROXY=p\nnonsense\n"), [("HTTP_PROXY", "p")]);
    }
}
