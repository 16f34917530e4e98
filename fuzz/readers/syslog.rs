//! A reader of syslog by the letter of RFC 5424 and RFC 6587.

/// One message.
#[derive(Debug, PartialEq)]
pub(crate) struct Message<'t> {
    pub priority: u32,
    pub timestamp: &'t str,
    pub host: &'t str,
    pub app: &'t str,
    pub process: &'t str,
    pub message_id: &'t str,
    pub data_id: &'t str,
    pub parameters: Vec<(&'t str, String)>,
    pub text: &'t str,
}

/// The messages of a stream with octet counting.
pub(crate) fn counted(mut stream: &[u8]) -> Result<Vec<&str>, String> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let blank = stream.iter().position(|byte| *byte == b' ').ok_or("no length")?;
        let (length, rest) = stream.split_at(blank);
        let length = std::str::from_utf8(length).map_err(|error| error.to_string())?;
        if length.starts_with('0') || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("`{length}` is no length"));
        }
        let length: usize = length.parse().map_err(|_| "no length")?;
        let (message, rest) = rest[1..].split_at_checked(length).ok_or("a message is cut off")?;
        messages.push(std::str::from_utf8(message).map_err(|error| error.to_string())?);
        stream = rest;
    }
    Ok(messages)
}

/// Reads a message with one element of structured data.
pub(crate) fn read(message: &str) -> Result<Message<'_>, String> {
    let rest = message.strip_prefix('<').ok_or("no priority")?;
    let (priority, rest) = rest.split_once(">1 ").ok_or("no version")?;
    let priority: u32 = priority.parse().map_err(|_| "no priority")?;
    let mut fields = rest.splitn(6, ' ');
    let mut field = |bytes_max: usize| {
        let field = fields.next().ok_or("a field is missing")?;
        match !field.is_empty()
            && field.len() <= bytes_max
            && field.bytes().all(|byte| byte.is_ascii_graphic())
        {
            true => Ok(field),
            false => Err(format!("`{field}` is no field")),
        }
    };
    let (timestamp, host, app) = (field(32)?, field(255)?, field(48)?);
    let (process, message_id) = (field(128)?, field(32)?);
    let rest = fields.next().and_then(|rest| rest.strip_prefix('[')).ok_or("no structured data")?;
    let (data_id, mut rest) = rest.split_once(' ').ok_or("no parameter")?;
    let mut parameters = Vec::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("no value")?;
        let (value, after) = value_of(value)?;
        parameters.push((name, value));
        match after.strip_prefix(' ') {
            Some(next) => rest = next,
            None => {
                let text = after.strip_prefix("] ").ok_or("no end of the structured data")?;
                return Ok(Message {
                    priority,
                    timestamp,
                    host,
                    app,
                    process,
                    message_id,
                    data_id,
                    parameters,
                    text,
                });
            }
        }
    }
}

/// A value up to its quote, and what follows.
fn value_of(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &text[at + 1..])),
            ']' => return Err("a bracket that is not escaped".to_owned()),
            '\\' => match letters.next() {
                Some((_, escaped @ ('"' | '\\' | ']'))) => value.push(escaped),
                other => return Err(format!("escapes {other:?}")),
            },
            other => value.push(other),
        }
    }
    Err("no end of a value".to_owned())
}
