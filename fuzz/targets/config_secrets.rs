//! A configuration in the support bundle: a password in a URL or an address is not shown, nor what a key of a secret
//! has as its value, whatever is around it.

use super::config_text::redacted;
use super::secrets::Secrets;
use crate::fuzz::input::Input;

const SECRET: &str = "h4rdToGuess";
const SCHEMES: [&str; 8] = ["", "http://", "https://", "socks5h://", "tcp://", "x://", "file://", "HTTPS://"];
const KEYS: [&str; 8] = ["url", "hosts", "address", "brokers", "proxy", "token", "password", "anything"];

pub(crate) fn config_secrets(data: &[u8]) {
    let mut input = Input(data);
    if input.flag() {
        if let Ok(text) = std::str::from_utf8(input.0) {
            redacted(text, &mut Secrets::default()).iter().for_each(|shown| check_toml(shown));
        }
        return;
    }
    let (key, scheme) = (KEYS[input.below(KEYS.len())], SCHEMES[input.below(SCHEMES.len())]);
    // A user does not end before the password, nor the password before the host, which may be anything.
    let is_part = |c: &char| !"/?#\\@:".contains(*c) && !c.is_whitespace() && !c.is_control();
    let [user, end] =
        [input.text(), input.text()].map(|text| text.chars().filter(is_part).collect::<String>());
    let (password, host) = (format!("{SECRET}{end}"), String::from_utf8_lossy(input.0).replace('@', ""));
    let value = toml::Value::String(format!("{scheme}{user}:{password}@{host}"));
    let value = if input.0.len().is_multiple_of(2) { value } else { toml::Value::Array(vec![value]) };
    let text = format!("[[sink]]\n{key} = {value}\n");
    let mut secrets = Secrets::default();
    let shown = redacted(&text, &mut secrets).unwrap_or_else(|error| panic!("{error}: {text}"));
    check_toml(&shown);
    let letters = |text: &str| text.to_ascii_lowercase();
    assert!(!letters(&shown).contains(&letters(SECRET)), "{text}{shown}");
    let line = format!("connecting failed: {password} is wrong");
    assert!(!secrets.remove_from(line).contains(SECRET), "{text}");
}

fn check_toml(shown: &str) {
    assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");
}
