//! The man page of the configuration, generated from the comments of the packaged example.

use std::fmt::Write;

const EXAMPLE: &str = include_str!("../../../packaging/confluence-audit-agent.toml");

/// confluence-audit-agent.toml(5) in roff.
pub(super) fn page() -> String {
    let (name, version, path) = (crate::NAME, env!("CARGO_PKG_VERSION"), escaped(crate::cli::CONFIG_PATH));
    let body = body(EXAMPLE);
    let title = escaped(name);
    format!(
        ".TH audit-agent.toml 5 \"\" \"{name} {version}\" \"File Formats\"\n\
         .SH NAME\n{title}.toml \\- configuration of {title}(1)\n\
         .SH SYNOPSIS\n{path}\n\
         .SH DESCRIPTION\n{body}\
         .SH FILES\n.TP\n.I {path}\nThe configuration itself.\n\
         .TP
         .I /usr/share/{title}/config.toml
         The packaged configuration: all keys with their defaults.
         \
         .SH EXAMPLES\n.nf\nsudo \\-u {title} {title} check\nsudo systemctl restart {title}\n.fi\n\
         .SH SEE ALSO\n.BR {title} (1),\n.BR {title}\\-check (1)\n"
    )
}

/// `# words` are prose, `#key = value` is a key with its default, and `##key = value` is an alternative. A
/// comment documents the keys or the table below it.
fn body(example: &str) -> String {
    let (mut page, mut prose, mut keys) = (String::new(), Vec::new(), Vec::new());
    for line in example.lines() {
        let bare = line.trim_start_matches('#').trim();
        let is_prose = bare.is_empty() || line.starts_with("# ");
        let is_table = bare.starts_with('[') && bare.ends_with(']') && !bare.contains('=');
        if (is_prose || is_table) && !keys.is_empty() {
            write_keys(&mut keys, &mut prose, &mut page);
        }
        if is_table {
            let _ = writeln!(page, ".SS {}", escaped(bare));
            write_prose(&mut prose, &mut page);
        } else if is_prose {
            if line.is_empty() && !prose.is_empty() {
                write_prose(&mut prose, &mut page);
            }
            prose.push(line.strip_prefix("# ").unwrap_or_default());
        } else {
            let kind = match (line.starts_with("##"), line.starts_with('#')) {
                (true, _) => "example",
                (false, true) => "default",
                (false, false) => "as shipped",
            };
            keys.push((bare, kind));
        }
    }
    write_keys(&mut keys, &mut prose, &mut page);
    page
}

fn write_keys(keys: &mut Vec<(&str, &str)>, prose: &mut Vec<&str>, page: &mut String) {
    for (number, (key, kind)) in keys.drain(..).enumerate() {
        let tag = if number == 0 { ".TP" } else { ".TQ" };
        let key = escaped(key).replace('"', "\\(dq");
        let _ = writeln!(page, "{tag}\n\\fB{key}\\fR  ({kind})");
    }
    write_lines(prose, page);
}

/// Writes a separate paragraph.
fn write_prose(prose: &mut Vec<&str>, page: &mut String) {
    if prose.iter().any(|line| !line.trim().is_empty()) {
        page.push_str(".PP\n");
        write_lines(prose, page);
    }
    prose.clear();
}

/// Writes lines. Commands keep their indentation.
fn write_lines(prose: &mut Vec<&str>, page: &mut String) {
    for line in prose.drain(..) {
        let text = escaped(line.trim());
        if text.is_empty() {
            continue;
        }
        if line.starts_with("    ") {
            let _ = writeln!(page, ".br\n\\ \\ \\ \\ {text}\n.br");
        } else {
            let _ = writeln!(page, "{text}");
        }
    }
}

/// Escapes text, so that roff treats nothing in it as a command.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_belongs_to_the_keys_and_tables_below_it() {
        let example = "# About all.\n#\n#     a command\n\n# The first.\n#one = \"1s\"\n\n\n# A table.\n[log]\n\
                       # Two of them.\n#two = 2\n##three = '\\d'\n";
        assert_eq!(
            body(example),
            ".PP\nAbout all.\n.br\n\\ \\ \\ \\ a command\n.br\n.TP\n\\fBone = \\(dq1s\\(dq\\fR  (default)\nThe first.\n\
             .SS [log]\n.PP\nA table.\n.TP\n\\fBtwo = 2\\fR  (default)\n.TQ\n\\fBthree = '\\ed'\\fR  (example)\nTwo of them.\n"
        );
    }

    #[test]
    fn the_page_has_every_key_of_the_example() {
        let page = page();
        let keys = EXAMPLE.lines().filter_map(|line| {
            let (key, _) = line.trim_start_matches('#').split_once(" = ")?;
            (!key.contains(' ')).then_some(key)
        });
        let mut count = 0;
        for key in keys {
            assert!(page.contains(&format!("\\fB{key} = ")), "{key}");
            count += 1;
        }
        assert!(count >= 30, "{count}");
    }
}
