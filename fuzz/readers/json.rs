//! A strict reader of JSON.

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().find(|(own, _)| own == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of an object.
    pub(crate) fn members(&self) -> &[(String, Json)] {
        match self {
            Json::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of a list.
    pub(crate) fn elements(&self) -> &[Json] {
        match self {
            Json::List(elements) => elements,
            _ => &[],
        }
    }

    /// The text of a number.
    pub(crate) fn number(&self) -> Option<&str> {
        match self {
            Json::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Writes the value with the members in the reverse order, and with all of its letters escaped.
    pub(crate) fn write_reversed(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => out.push_str(number),
            Json::Text(text) => write_escaped(text, out),
            Json::List(elements) => {
                for (at, element) in elements.iter().enumerate() {
                    out.push_str(if at == 0 { "[" } else { " , " });
                    element.write_reversed(out);
                }
                out.push_str(if elements.is_empty() { "[]" } else { "]" });
            }
            Json::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().rev().enumerate() {
                    out.push_str(if at == 0 { "" } else { ",\t" });
                    write_escaped(name, out);
                    out.push_str(" : ");
                    value.write_reversed(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_escaped(text: &str, out: &mut String) {
    out.push('"');
    for unit in text.encode_utf16() {
        out.push_str(&format!("\\u{unit:04X}"));
    }
    out.push('"');
}

/// Deeper values are an error.
const DEPTH_MAX: usize = 200;

/// Reads JSON by the letter of RFC 8259, and no object in which a name stands twice.
pub(crate) fn read(text: &str) -> Result<Json, String> {
    read_as(text, false)
}

/// As [`read`], but a name may stand twice.
pub(crate) fn read_repeated(text: &str) -> Result<Json, String> {
    read_as(text, true)
}

fn read_as(text: &str, may_repeat: bool) -> Result<Json, String> {
    let mut reader = Reader { text, at: 0, depth: 0, may_repeat };
    let json = reader.value()?;
    match reader.at == text.len() {
        true => Ok(json),
        false => Err(reader.error_at("something more")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    may_repeat: bool,
}

impl Reader<'_> {
    fn error_at(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    fn take(&mut self, sign: u8) -> bool {
        let there = self.peek() == sign;
        self.at += usize::from(there);
        there
    }

    fn need(&mut self, sign: u8) -> Result<(), String> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(self.error_at(&format!("no `{}`", char::from(sign)))),
        }
    }

    fn value(&mut self) -> Result<Json, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error_at("too deep"));
        }
        self.blanks();
        let json = match self.peek() {
            b'{' => self.object()?,
            b'[' => self.list()?,
            b'"' => Json::Text(self.string()?),
            b'-' | b'0'..=b'9' => self.number()?,
            _ => self.word()?,
        };
        self.depth -= 1;
        self.blanks();
        Ok(json)
    }

    fn object(&mut self) -> Result<Json, String> {
        self.at += 1;
        self.blanks();
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        if self.take(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            let name = self.string()?;
            if !names.insert(name.clone()) && !self.may_repeat {
                return Err(self.error_at(&format!("`{name}` stands twice")));
            }
            self.blanks();
            self.need(b':')?;
            members.push((name, self.value()?));
            if !self.take(b',') {
                self.need(b'}')?;
                return Ok(Json::Object(members));
            }
        }
    }

    fn list(&mut self) -> Result<Json, String> {
        self.at += 1;
        self.blanks();
        let mut elements = Vec::new();
        if self.take(b']') {
            return Ok(Json::List(elements));
        }
        loop {
            elements.push(self.value()?);
            if !self.take(b',') {
                self.need(b']')?;
                return Ok(Json::List(elements));
            }
        }
    }

    fn number(&mut self) -> Result<Json, String> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(Json::Number(self.text[start..self.at].to_owned()))
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(self.error_at("no digit")),
        }
    }

    fn word(&mut self) -> Result<Json, String> {
        for (word, json) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(json);
            }
        }
        Err(self.error_at("no value"))
    }

    fn string(&mut self) -> Result<String, String> {
        self.need(b'"')?;
        let mut text = String::new();
        loop {
            let Some(letter) = self.text[self.at..].chars().next() else {
                return Err(self.error_at("no end of a string"));
            };
            self.at += letter.len_utf8();
            match letter {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                '\0'..'\u{20}' => return Err(self.error_at("a control character")),
                other => text.push(other),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let sign = self.peek();
        self.at += 1;
        Ok(match sign {
            b'"' | b'\\' | b'/' => char::from(sign),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    units.push(self.unit()?);
                }
                let mut letters = char::decode_utf16(units);
                match (letters.next(), letters.next()) {
                    (Some(Ok(letter)), None) => letter,
                    _ => return Err(self.error_at("half a surrogate pair")),
                }
            }
            _ => return Err(self.error_at("no escape")),
        })
    }

    fn unit(&mut self) -> Result<u16, String> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or("");
        if digits.len() != 4 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(self.error_at("no four digits"));
        }
        self.at += 4;
        u16::from_str_radix(digits, 16).map_err(|error| error.to_string())
    }
}
