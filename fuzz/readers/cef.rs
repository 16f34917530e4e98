//! A reader of CEF by the letter of its description.

use std::collections::HashSet;

/// The extensions of an event, unescaped, in their order.
pub(crate) fn read(event: &str) -> Result<Vec<(String, String)>, String> {
    let mut rest = event.strip_prefix("CEF:0|").ok_or("no CEF")?;
    for field in 0..6 {
        let end = end_of(rest, '|', "\\|").ok_or(format!("no end of field {field}"))??;
        if end == 0 {
            return Err(format!("field {field} is empty"));
        }
        if field == 5 && !rest[..end].parse::<u8>().is_ok_and(|severity| severity <= 10) {
            return Err("no severity".to_owned());
        }
        rest = &rest[end + 1..];
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut keys = HashSet::new();
    let mut key = take_key(&mut rest)?;
    loop {
        let next = match end_of(rest, '=', "\\=nr") {
            Some(end) => Some(end?),
            None => None,
        };
        // A value ends before the blank before the next key.
        let end = match next {
            Some(sign) => rest[..sign].rfind(' ').ok_or("a key without a blank before it")?,
            None => rest.len(),
        };
        if !keys.insert(key.clone()) {
            return Err(format!("`{key}` stands twice"));
        }
        pairs.push((key, unescaped(&rest[..end])));
        if next.is_none() {
            break;
        }
        rest = &rest[end + 1..];
        key = take_key(&mut rest)?;
    }
    match pairs
        .iter()
        .find(|(key, _)| key.ends_with("Label") && !keys.contains(key.trim_end_matches("Label")))
    {
        Some((key, _)) => Err(format!("`{key}` labels nothing")),
        None => Ok(pairs),
    }
}

/// Where the sign stands next that is not escaped; an error where something is escaped that must not be.
fn end_of(text: &str, sign: char, escapable: &str) -> Option<Result<usize, String>> {
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        if letter == sign {
            return Some(Ok(at));
        }
        if letter == '\\' {
            match letters.next() {
                Some((_, next)) if escapable.contains(next) => {}
                other => return Some(Err(format!("escapes {other:?}"))),
            }
        }
    }
    None
}

fn take_key(rest: &mut &str) -> Result<String, String> {
    let (key, after) = rest.split_once('=').ok_or("no key")?;
    *rest = after;
    match !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(key.to_owned()),
        false => Err(format!("`{key}` is no key")),
    }
}

fn unescaped(value: &str) -> String {
    let mut text = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    text
}
