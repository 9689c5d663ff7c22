//! Parses the machine's listing of a directory: names, each with a zero byte after it, then one line of `stat` for
//! each.

use crate::contract::{Bytes, FileEntry, FileKind, FileList, Timestamp};

/// Maximum number of entries returned.
const MOST: usize = 10_000;

/// Whether these lines exceed the maximum.
pub(super) fn is_enough(lines: &[u8]) -> bool {
    // Each line has at least this many bytes, so shorter output needs no count.
    lines.len() > MOST * 16 && lines.split(|byte| *byte == b'\n').count() > MOST + 2
}

/// `names` are `./name` each; `lines` are `mode size time user group name`, with the target of a link. The names are
/// known in advance, so a name may contain anything.
pub(super) fn read(names: &[u8], lines: &[u8]) -> FileList {
    let mut entries = Vec::new();
    let mut rest = lines;
    let mut truncated = false;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if entries.len() == MOST {
            truncated = true;
            break;
        }
        // A file deleted during the listing has no line.
        if let Some((entry, after)) = entry(name, rest) {
            entries.push(entry);
            rest = after;
        }
    }
    entries.sort_by(|one, other| {
        let rank = |entry: &FileEntry| entry.kind != FileKind::Directory;
        rank(one).cmp(&rank(other)).then_with(|| one.name.cmp(&other.name))
    });
    FileList { entries, truncated }
}

fn entry<'l>(name: &[u8], lines: &'l [u8]) -> Option<(FileEntry, &'l [u8])> {
    let mut rest = lines;
    let mut field = || {
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
        Some(text)
    };
    let mode = u32::from_str_radix(field()?, 16).ok()?;
    let size = field()?.parse().ok()?;
    let modified: i64 = field()?.parse().ok()?;
    let user = field()?.parse().ok()?;
    let group = field()?.parse().ok()?;
    // File types of mode (inode(7)).
    let kind = match mode & 0o170_000 {
        0o100_000 => FileKind::File,
        0o040_000 => FileKind::Directory,
        0o120_000 => FileKind::Link,
        _ => FileKind::Other,
    };
    let mut link = None;
    let after = if kind == FileKind::Link {
        let quoted = rest.strip_prefix(b"'")?.strip_prefix(name)?.strip_prefix(b"' -> '")?;
        let end = quoted.windows(2).position(|pair| pair == b"'\n")?;
        link = Some(String::from_utf8_lossy(&quoted[..end]).into_owned());
        &quoted[end + 2..]
    } else {
        rest.strip_prefix(name)?.strip_prefix(b"\n")?
    };
    let name = String::from_utf8_lossy(name.strip_prefix(b"./").unwrap_or(name)).into_owned();
    let entry = FileEntry {
        name,
        kind,
        size: Bytes(size),
        modified: Timestamp(modified * 1000),
        mode: mode & 0o7777,
        user,
        group,
        link,
    };
    Some((entry, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_first_and_every_name_is_read() {
        let names = b"./z\0./gone\0./line\nend\0./etc\0./link\0";
        let lines = b"81a4 5 10 0 0 ./z\n\
            81ed 6 11 1000 100 ./line\nend\n\
            41ed 4096 12 0 0 ./etc\n\
            a1ff 6 13 0 0 './link' -> '/a b'\n";
        let list = read(names, lines);
        let names: Vec<_> = list.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["etc", "line\nend", "link", "z"]);
        assert_eq!(list.entries[2].link.as_deref(), Some("/a b"));
        let file = &list.entries[1];
        assert_eq!(
            (file.mode, file.user, file.group, file.size, file.modified),
            (0o755, 1000, 100, Bytes(6), Timestamp(11_000))
        );
        assert!(!list.truncated);
    }

    #[test]
    fn a_big_directory_is_cut() {
        let names: Vec<u8> = (0..MOST + 5).flat_map(|number| format!("./{number}\0").into_bytes()).collect();
        let lines: Vec<u8> =
            (0..MOST + 5).flat_map(|number| format!("81a4 0 0 0 0 ./{number}\n").into_bytes()).collect();
        let list = read(&names, &lines);
        assert_eq!((list.entries.len(), list.truncated), (MOST, true));
        assert!(is_enough(&lines));
    }
}
