//! Which file uses which, read from the sources. Unit tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The files of `src`, by the path of their module; that of `lib.rs` is empty.
pub struct Sources(BTreeMap<String, Module>);

pub struct Module {
    /// Relative to `src`.
    pub file: String,
    /// All paths that the file names, from the root of the crate or from another crate on.
    pub paths: BTreeSet<String>,
    /// What it offers under a name of its own (`pub use`), and where that is.
    exports: BTreeMap<String, String>,
    pub is_async: bool,
}

impl Sources {
    /// `files`: each file's path relative to `src`, and its text. Files of tests are left out.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Sources {
        let files: Vec<(String, String, &str)> = files
            .into_iter()
            .filter(|(path, _)| !super::is_test(path) && *path != Path::new("main.rs"))
            .map(|(path, text)| {
                let file = path.to_str().unwrap().to_owned();
                let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
                (module.replace('/', "::").replace("lib", ""), file, text)
            })
            .collect();
        let names: BTreeSet<&str> = files.iter().map(|(name, ..)| name.as_str()).collect();
        let modules = files.iter().map(|(name, file, text)| {
            let code = without_tests(&words(text));
            (name.clone(), Module::read(name, file, &code, &names))
        });
        Sources(modules.collect())
    }

    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.0.values()
    }

    /// The module in whose file the item with this path is, re-exports followed.
    fn home_of(&self, path: &str) -> Option<&str> {
        let mut path = path.to_owned();
        'again: loop {
            let parts: Vec<&str> = path.split("::").collect();
            for count in (0..=parts.len()).rev() {
                let Some((name, module)) = self.0.get_key_value(&parts[..count].join("::")) else {
                    continue;
                };
                if let Some(target) = parts.get(count).and_then(|item| module.exports.get(*item)) {
                    path = [&[target.as_str()], &parts[count + 1..]].concat().join("::");
                    continue 'again;
                }
                return (count > 0).then_some(name);
            }
            return None;
        }
    }

    /// The modules that each module uses. A module may use what the modules around it offer: that is no use here.
    fn uses(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let of = |(name, module): (&'_ String, &'_ Module)| -> BTreeSet<&str> {
            let used = module.paths.iter().filter_map(|path| self.home_of(path));
            let around = |used: &str| name == used || name.starts_with(&format!("{used}::"));
            used.filter(|used| !around(used)).collect()
        };
        self.0.iter().map(|entry| (entry.0.as_str(), of(entry))).collect()
    }

    /// The largest sets of modules of which each uses each other one, directly or over others.
    pub fn circles(&self) -> Vec<BTreeSet<&str>> {
        let uses = self.uses();
        let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for from in uses.keys().copied() {
            let of_this = reached.entry(from).or_default();
            let mut open = vec![from];
            while let Some(next) = open.pop() {
                open.extend(uses[next].iter().filter(|used| of_this.insert(**used)));
            }
        }
        let circle = |name: &&str| -> BTreeSet<&str> {
            let back = reached[name].iter().filter(|other| reached[**other].contains(name));
            back.copied().collect()
        };
        let circles: BTreeSet<BTreeSet<&str>> = reached.keys().map(circle).collect();
        circles.into_iter().filter(|circle| circle.len() > 1).collect()
    }
}

impl Module {
    fn read(name: &str, file: &str, code: &[&str], names: &BTreeSet<&str>) -> Module {
        let mut module = Module {
            file: file.to_owned(),
            paths: BTreeSet::new(),
            exports: BTreeMap::new(),
            is_async: code.contains(&"async"),
        };
        let mut at = 0;
        while at < code.len() {
            if code[at] == "use" {
                let end = at + code[at..].iter().position(|word| *word == ";").unwrap();
                // Behind `pub` or `pub(…)`.
                let is_public = at > 0 && matches!(code[at - 1], "pub" | ")");
                for (path, alias) in paths_of_tree(&code[at + 1..end]) {
                    let Some(path) = absolute(name, &path, names) else {
                        continue;
                    };
                    if is_public {
                        module.exports.insert(alias, path);
                    } else {
                        module.paths.insert(path);
                    }
                }
                at = end;
            } else if is_name(code[at]) && (at == 0 || code[at - 1] != "::") {
                let mut parts = vec![code[at]];
                while code.get(at + 1) == Some(&"::") && code.get(at + 2).is_some_and(|word| is_name(word)) {
                    at += 2;
                    parts.push(code[at]);
                }
                if parts.len() > 1 {
                    module.paths.extend(absolute(name, &parts.join("::"), names));
                }
            }
            at += 1;
        }
        module
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The path from the root of the crate on; a path of another crate is as it was.
fn absolute(module: &str, path: &str, names: &BTreeSet<&str>) -> Option<String> {
    let mut around: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts: Vec<&str> = path.split("::").filter(|part| *part != "*").collect();
    if parts.len() > 1 && parts.last() == Some(&"self") {
        parts.pop();
    }
    match *parts.first()? {
        "crate" => {
            around.clear();
            parts.remove(0);
        }
        "self" => drop(parts.remove(0)),
        "super" => {
            while parts.first() == Some(&"super") {
                around.pop()?;
                parts.remove(0);
            }
        }
        child => {
            let child = [&around[..], &[child]].concat().join("::");
            if !names.contains(child.as_str()) {
                return Some(parts.join("::"));
            }
        }
    }
    Some([around, parts].concat().join("::"))
}

/// The paths of the tree behind `use`, each with the name that it gets.
fn paths_of_tree(tree: &[&str]) -> Vec<(String, String)> {
    let Some(open) = tree.iter().position(|word| *word == "{") else {
        let (path, alias) = match tree.iter().position(|word| *word == "as") {
            Some(at) => (&tree[..at], tree[at + 1]),
            None => (tree, *tree.last().unwrap()),
        };
        return vec![(path.concat(), alias.to_owned())];
    };
    let prefix = tree[..open].concat();
    let mut paths = Vec::new();
    let (mut depth, mut from) = (0, open + 1);
    for at in open..tree.len() {
        match tree[at] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        let ends = tree[at] == "," && depth == 1 || depth == 0;
        if ends && from < at {
            let inner = paths_of_tree(&tree[from..at]).into_iter();
            paths.extend(inner.map(|(path, alias)| (format!("{prefix}{path}"), alias)));
        }
        if ends {
            from = at + 1;
        }
    }
    paths
}

/// The names and signs of a source; comments are left out, and each text is `0`.
fn words(source: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length =
            |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
        let (length, word) = if first.is_whitespace() {
            (first.len_utf8(), None)
        } else if rest.starts_with("//") {
            (length(0, "\n"), None)
        } else if rest.starts_with("/*") {
            (length(2, "*/"), None)
        } else if let Some(hashes) = raw_text(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            (length(rest.find('"').unwrap() + 1, &end), Some("0"))
        } else if rest.starts_with('"') || rest.starts_with("b\"") {
            (text(rest), Some("0"))
        } else if first == '\'' {
            (character(rest), Some("0"))
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let end = end.unwrap_or(rest.len());
            (end, Some(&rest[..end]))
        } else if rest.starts_with("::") {
            (2, Some("::"))
        } else {
            (first.len_utf8(), Some(&rest[..first.len_utf8()]))
        };
        words.extend(word);
        rest = &rest[length..];
    }
    words
}

/// How many `#` a raw text has around it.
fn raw_text(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix("br").or(rest.strip_prefix('r'))?;
    let quoted = inner.trim_start_matches('#');
    quoted.starts_with('"').then_some(inner.len() - quoted.len())
}

/// The length of a text in quotes.
fn text(rest: &str) -> usize {
    let mut escaped = false;
    let begin = rest.find('"').unwrap() + 1;
    let end = rest[begin..].find(|c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    begin + end.unwrap() + 1
}

/// The length of a character in quotes, or of a lifetime's sign.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, _))) => at + 1 + rest[at + 1..].find('\'').unwrap() + 1,
        (_, Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Leaves out each item that is compiled for tests alone.
fn without_tests<'a>(code: &[&'a str]) -> Vec<&'a str> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if !code[at..].starts_with(&TEST) {
            kept.push(code[at]);
            at += 1;
            continue;
        }
        at += TEST.len();
        let mut depth = 0;
        while at < code.len() {
            match code[at] {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(code[at - 1], ";" | "}" | ",") {
                break;
            }
        }
    }
    kept
}

#[test]
fn imports_are_understood() {
    let files = [
        ("lib.rs", "pub mod a; pub mod b;"),
        ("a.rs", "mod inner; pub use inner::Shown as Thing; use std::{fs::{self, File}, io};"),
        ("a/inner.rs", "use super::other::X; pub struct Shown; fn f() { crate::b::g('\"', '{', \"}\") }"),
        ("a/other.rs", "// use super::inner::X;\nfn f<'a>() -> &'a str { r#\"crate::b::c\"# }"),
        (
            "b/mod.rs",
            "#[cfg(test)]\nuse crate::a::other::X;\n#[cfg(test)]\nmod tests { use crate::c::X; }\nuse crate::a::Thing;",
        ),
        ("c.rs", "async fn f() {}"),
        ("b/tests.rs", "use crate::c::X;"),
    ];
    let sources = Sources::read(files.map(|(path, text)| (Path::new(path), text)));
    let paths = |name: &str| Vec::from_iter(sources.0[name].paths.iter().map(String::as_str));
    assert_eq!(paths("a"), ["std::fs", "std::fs::File", "std::io"]);
    assert_eq!(paths("a::inner"), ["a::other::X", "b::g"]);
    assert_eq!(paths("a::other"), [""; 0]);
    assert_eq!(paths("b"), ["a::Thing"]);
    assert!(sources.0["c"].is_async && !sources.0["b"].is_async);
    assert_eq!(sources.circles(), [BTreeSet::from(["a::inner", "b"])]);
}

/// A file that uses another one is not used by it, directly or over others.
#[test]
fn no_file_imports_one_that_imports_it() {
    let sources = super::sources();
    let circles = sources.circles();
    assert!(circles.is_empty(), "files that import each other in a circle: {circles:#?}");
}
