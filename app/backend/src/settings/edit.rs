//! Changes one key in the text of a settings file. Comments, order and all other text stay as the user wrote them.

use std::ops::Range;

use toml_edit::{Document, DocumentMut, Item, TomlError, Value};

use crate::contract::SettingValue;

/// The value as TOML writes it.
fn written(value: &SettingValue) -> Value {
    match value {
        SettingValue::Switch(on) => Value::from(*on),
        SettingValue::Integer(number) => Value::from(i64::from(*number)),
        SettingValue::Text(text) => Value::from(text.as_str()),
    }
}

/// Splits a full key into its section, if it has one, and its name.
fn parted(name: &str) -> (Option<&str>, &str) {
    match name.split_once('.') {
        Some((section, key)) => (Some(section), key),
        None => (None, name),
    }
}

fn find<'d>(document: &'d Document<&str>, name: &str) -> Option<&'d Item> {
    let (section, key) = parted(name);
    match section {
        Some(section) => document.get(section)?.as_table_like()?.get(key),
        None => document.get(key),
    }
}

/// The value of a key. `None` if the file lacks it or holds a value of another kind.
pub(super) fn read(text: &str, name: &str) -> Option<SettingValue> {
    let document = Document::parse(text).ok()?;
    let item = find(&document, name)?;
    if let Some(on) = item.as_bool() {
        return Some(SettingValue::Switch(on));
    }
    if let Some(number) = item.as_integer() {
        return u32::try_from(number).ok().map(SettingValue::Integer);
    }
    item.as_str().map(|text| SettingValue::Text(text.to_owned()))
}

/// Returns the text with the key's value changed. Without a value, the key becomes the comment with its default.
///
/// # Errors
///
/// The text is not TOML.
pub(super) fn change(
    text: &str,
    name: &str,
    value: Option<&SettingValue>,
    default: &SettingValue,
) -> Result<String, TomlError> {
    let document = Document::parse(text)?;
    let (section, key) = parted(name);
    let changed = match (find(&document, name).and_then(Item::span), value) {
        (Some(span), Some(value)) => Some(replaced(text, span, &written(value).to_string())),
        (Some(span), None) => commented_out(text, span, key, default),
        (None, None) => return Ok(text.to_owned()),
        (None, Some(value)) => inserted(text, section, key, &written(value).to_string()),
    };
    // An edit of lines fails for a dotted key or an inline table; those are rewritten as a document.
    if let Some(changed) = changed
        && read(&changed, name).as_ref() == value
    {
        return Ok(changed);
    }
    let mut document: DocumentMut = text.parse()?;
    let table = match section {
        Some(section) => document.entry(section).or_insert(toml_edit::table()).as_table_like_mut(),
        None => Some(document.as_table_mut() as &mut dyn toml_edit::TableLike),
    };
    if let Some(table) = table {
        match value {
            Some(value) => table.insert(key, Item::Value(written(value))),
            None => table.remove(key),
        };
    }
    Ok(document.to_string())
}

fn replaced(text: &str, span: Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..span.start], &text[span.end..])
}

/// Turns the line of a key into a comment, as in the file Rorqual writes. `None` if the key is not alone on its line.
fn commented_out(text: &str, value: Range<usize>, key: &str, default: &SettingValue) -> Option<String> {
    let begin = text[..value.start].rfind('\n').map_or(0, |end| end + 1);
    let before = text[begin..value.start].trim();
    let own_line = before.strip_prefix(key).is_some_and(|rest| rest.trim() == "=");
    own_line.then(|| replaced(text, begin..value.end, &format!("# {key} = {}", written(default))))
}

/// Replaces the comment of the key with the key, else inserts it as the first of its section, else in a new section.
fn inserted(text: &str, section: Option<&str>, key: &str, value: &str) -> Option<String> {
    let header = |line: &str| {
        let line = line.trim();
        line.strip_prefix('[').and_then(|line| line.split(']').next()).map(|name| name.trim().to_owned())
    };
    let mut current: Option<String> = None;
    let mut after_header = section.is_none().then_some(0);
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some(name) = header(line) {
            if Some(name.as_str()) == section && after_header.is_none() {
                after_header = Some(offset + line.len());
            }
            current = Some(name);
        } else if current.as_deref() == section
            && let Some(comment) = line.trim_start().strip_prefix('#')
            && let Some(rest) = comment.trim_start().strip_prefix(key)
            && rest.trim_start().starts_with('=')
        {
            let end = offset + line.trim_end_matches(['\r', '\n']).len();
            return Some(replaced(text, offset..end, &format!("{key} = {value}")));
        }
        offset += line.len();
    }
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match after_header {
        Some(place) if place == text.len() => Some(format!("{text}{newline}{key} = {value}\n")),
        Some(place) => Some(replaced(text, place..place, &format!("{key} = {value}\n"))),
        None => Some(format!("{text}{newline}\n[{}]\n{key} = {value}\n", section?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, name: &str, value: u32) -> String {
        change(text, name, Some(&SettingValue::Integer(value)), &SettingValue::Integer(2)).unwrap()
    }

    fn unset(text: &str, name: &str) -> String {
        change(text, name, None, &SettingValue::Integer(2)).unwrap()
    }

    #[test]
    fn a_key_takes_the_place_of_its_comment_and_gives_it_back() {
        let text = "# Top.\n[a]\n# Of a.\n# cpus = 2\n\n[machine]\n# How many.\n# cpus = 2\n# end\n";
        let changed = set(text, "machine.cpus", 4);
        assert_eq!(changed, "# Top.\n[a]\n# Of a.\n# cpus = 2\n\n[machine]\n# How many.\ncpus = 4\n# end\n");
        assert_eq!(unset(&changed, "machine.cpus"), text);
    }

    #[test]
    fn only_the_value_of_a_key_that_is_there_changes() {
        let text = "[machine] # mine\n  cpus=1 # few\nmemory_mib = 5\n";
        assert_eq!(set(text, "machine.cpus", 4), "[machine] # mine\n  cpus=4 # few\nmemory_mib = 5\n");
        assert_eq!(set("cpus = 1\n", "cpus", 3), "cpus = 3\n");
    }

    #[test]
    fn a_key_without_a_place_gets_one() {
        assert_eq!(set("", "machine.cpus", 4), "\n[machine]\ncpus = 4\n");
        assert_eq!(set("[machine]", "machine.cpus", 4), "[machine]\ncpus = 4\n");
        assert_eq!(set("[machine]\nmemory_mib = 1\n", "machine.cpus", 4), "[machine]\ncpus = 4\nmemory_mib = 1\n");
        assert_eq!(set("[other]\nx = 1\n", "machine.cpus", 4), "[other]\nx = 1\n\n[machine]\ncpus = 4\n");
        assert_eq!(set("# c\n", "cpus", 4), "cpus = 4\n# c\n");
    }

    #[test]
    fn other_ways_of_writing_are_understood() {
        for text in ["machine.cpus = 1\n", "machine = { cpus = 1, memory_mib = 3 }\n", "[machine]\n\"cpus\" = 1\n"] {
            let changed = set(text, "machine.cpus", 4);
            assert_eq!(read(&changed, "machine.cpus"), Some(SettingValue::Integer(4)), "{changed}");
            assert_eq!(read(&unset(text, "machine.cpus"), "machine.cpus"), None);
            assert_eq!(read(&unset(text, "machine.cpus"), "machine.memory_mib"), read(text, "machine.memory_mib"));
        }
    }

    #[test]
    fn texts_are_quoted() {
        let value = SettingValue::Text("a \"b\" \\ c".to_owned());
        let changed = change("[image]\n# path = \"\"\n", "image.path", Some(&value), &value).unwrap();
        assert_eq!(read(&changed, "image.path"), Some(value));
    }
}
