//! Java properties text: `key=value` lines, as in RocketMQ's `.conf` files and in the bodies of
//! its configuration requests.

/// One entry and the line it starts on, counted from 1.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) line: usize,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Reads all entries in order. There is no invalid text: a line without a separator is a key with
/// an empty value, as in Java.
pub(crate) fn parse(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((first, line)) = lines.next() {
        let mut logical = first.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((next, _)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        entries.push(Entry { line, key, value });
    }
    entries
}

/// A line goes on when it ends with an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at_checked(end.unwrap_or(line.len())).unwrap_or((line, ""));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
    (unescape(key), unescape(rest))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                plain.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn separators_comments_and_escapes_are_read_as_java_reads_them() {
        let text = "# comment\n! comment\n\n listenPort = 9876 \nkvConfigPath:C:\\\\dir\\\\kv.json\n\
                    bare\nspaced value here\na\\=b=c\nuni=\\u4e2d\r\n";
        assert_eq!(
            pairs(text),
            [
                pair("listenPort", "9876"),
                pair("kvConfigPath", "C:\\dir\\kv.json"),
                pair("bare", ""),
                pair("spaced", "value here"),
                pair("a=b", "c"),
                pair("uni", "中"),
            ]
        );
    }

    #[test]
    fn a_backslash_at_the_end_joins_lines_and_lines_are_counted() {
        let entries = parse("a=1,\\\n   2\nb=3\\\\\nc=4\\");
        let lines: Vec<_> = entries.iter().map(|entry| entry.line).collect();
        assert_eq!(lines, [1, 3, 4]);
        assert_eq!(pairs("a=1,\\\n   2"), [pair("a", "1,2")]);
        assert_eq!(pairs("b=3\\\\\nc=4\\"), [pair("b", "3\\"), pair("c", "4")]);
    }

    #[test]
    fn damaged_escapes_do_not_fail() {
        assert_eq!(pairs("a=\\u12"), [pair("a", "\u{12}")]);
        assert_eq!(pairs("a=\\ud800x"), [pair("a", "\u{fffd}x")]);
        assert_eq!(pairs("=x"), [pair("", "x")]);
    }
}
