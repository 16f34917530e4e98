//! The inputs of a target in one text: one a line, escaped as Rust escapes bytes.

/// Inputs as the text of a corpus.
pub fn write(inputs: &[Vec<u8>]) -> String {
    inputs.iter().map(|input| format!("{}\n", input.escape_ascii())).collect()
}

/// The inputs of a corpus.
pub fn parse(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(input).collect()
}

fn input(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut letters = line.bytes();
    while let Some(letter) = letters.next() {
        bytes.push(match letter {
            b'\\' => match letters.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let digits = [letters.next(), letters.next()].map(|digit| digit.unwrap_or(b'0'));
                    u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or_default()
                }
                other => other.unwrap_or(b'\\'),
            },
            other => other,
        });
    }
    bytes
}
