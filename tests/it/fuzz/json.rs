//! JSON as the fuzz target needs it: with repeated names and broken text on the way in, strict on the way out. Not
//! built on what the agent is built on, so that both cannot be wrong in one way.

use crate::rig::Random;

/// Stands in a text for half a surrogate pair.
pub const HALF_PAIR: char = '\u{f8ff}';
/// Stands in a text for a byte that is no UTF-8.
pub const NO_UTF8: char = '\u{f8fe}';

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Json {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// What a text means to a reader of the record.
fn decoded(text: &str) -> String {
    text.replace([HALF_PAIR, NO_UTF8], "\u{fffd}")
}

impl Json {
    /// The members in an order by chance, but for those of one name: the last of these is still the last.
    pub fn reordered(&self, random: &mut Random) -> Json {
        match self {
            Json::List(elements) => {
                Json::List(elements.iter().map(|element| element.reordered(random)).collect())
            }
            Json::Object(members) => {
                let mut order: Vec<usize> = (0..members.len()).collect();
                for at in (1..order.len()).rev() {
                    order.swap(at, random.below(at as u64 + 1) as usize);
                }
                let names: Vec<String> = order.iter().map(|at| decoded(&members[*at].0)).collect();
                for name in &names {
                    let mut places: Vec<usize> = (0..order.len()).filter(|at| names[*at] == *name).collect();
                    let mut of_name: Vec<usize> = places.iter().map(|at| order[*at]).collect();
                    of_name.sort_unstable();
                    places.drain(..).zip(of_name).for_each(|(at, member)| order[at] = member);
                }
                let member = |at: &usize| (members[*at].0.clone(), members[*at].1.reordered(random));
                Json::Object(order.iter().map(member).collect())
            }
            other => other.clone(),
        }
    }

    /// Of members of one name the last.
    pub fn without_repeated(&self) -> Json {
        match self {
            Json::List(elements) => Json::List(elements.iter().map(Json::without_repeated).collect()),
            Json::Object(members) => {
                let is_last = |at: usize| {
                    let name = decoded(&members[at].0);
                    members[at + 1..].iter().all(|(other, _)| decoded(other) != name)
                };
                let kept = (0..members.len()).filter(|at| is_last(*at));
                Json::Object(
                    kept.map(|at| (members[at].0.clone(), members[at].1.without_repeated())).collect(),
                )
            }
            other => other.clone(),
        }
    }

    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().find(|(own, _)| own == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// How a record is written.
#[derive(Clone, Copy, Default)]
pub struct Style {
    /// White space between tokens.
    pub blanks: bool,
    /// Of it, line ends too.
    pub line_ends: bool,
    /// Characters are escaped that need not be.
    pub escapes: bool,
}

pub fn write(json: &Json, style: Style, random: &mut Random, out: &mut Vec<u8>) {
    blanks(style, random, out);
    match json {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Json::Number(number) => out.extend_from_slice(number.as_bytes()),
        Json::Text(text) => write_text(text, style, random, out),
        Json::List(elements) => {
            out.push(b'[');
            for (at, element) in elements.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                write(element, style, random, out);
            }
            out.push(b']');
        }
        Json::Object(members) => {
            out.push(b'{');
            for (at, (name, value)) in members.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                blanks(style, random, out);
                write_text(name, style, random, out);
                blanks(style, random, out);
                out.push(b':');
                write(value, style, random, out);
            }
            out.push(b'}');
        }
    }
    blanks(style, random, out);
}

fn blanks(style: Style, random: &mut Random, out: &mut Vec<u8>) {
    while style.blanks && random.below(4) == 0 {
        let kinds: &[u8] = if style.line_ends { b" \t\r\n" } else { b" \t" };
        out.push(kinds[random.below(kinds.len() as u64) as usize]);
    }
}

fn write_text(text: &str, style: Style, random: &mut Random, out: &mut Vec<u8>) {
    out.push(b'"');
    for letter in text.chars() {
        match letter {
            // The second half: with what is before or behind it never makes a pair.
            HALF_PAIR => out.extend_from_slice(b"\\uDc01"),
            NO_UTF8 => out.push(0xff),
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '/' if style.escapes => out.extend_from_slice(b"\\/"),
            '\n' if style.escapes => out.extend_from_slice(b"\\n"),
            letter if letter < ' ' || (style.escapes && random.below(8) == 0) => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            letter => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Reads JSON by the letter of RFC 8259, and no object in which a name stands twice.
pub fn read(text: &str) -> Result<Json, String> {
    let mut reader = Reader { text, at: 0 };
    let json = reader.value()?;
    match reader.at == text.len() {
        true => Ok(json),
        false => Err(reader.error_at("something more")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
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
        self.blanks();
        let json = match self.peek() {
            b'{' => self.object()?,
            b'[' => self.list()?,
            b'"' => Json::Text(self.string()?),
            b'-' | b'0'..=b'9' => self.number()?,
            _ => self.word()?,
        };
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
            if !names.insert(name.clone()) {
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
