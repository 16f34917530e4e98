//! Which credentials of a source are used. Each combination has one outcome.

use crate::config::raw::{ConfigValue, Problems, Table};
use crate::config::reference::warn_inline;
use crate::config::remote::{Auth, Reference};

const PAT: &str = "personal_access_token";

/// `None` when they are missing or wrong; that has been reported then, what is missing only if they are `wanted`.
pub fn auth(table: &mut Table, cloud: bool, wanted: bool, problems: &mut Problems) -> Option<Auth> {
    let pat = table.reference(PAT, problems);
    let user = table.text(
        "user",
        if cloud { "auditor@acme.example" } else { "auditor" },
        problems,
    );
    let token = table.reference("token", problems);
    let user = user.and_then(|user| good_user(user, cloud, problems));
    if !wanted {
        return None;
    }
    for found in [&pat, &token].into_iter().flatten() {
        warn_inline(found, problems);
    }
    if cloud && table.had(PAT) {
        let message =
            "is for Data Center; Cloud knows API tokens: write `user` (an email address) and `token`";
        if let Some(span) = table.place_of(PAT) {
            problems.add(span, table.key(PAT), message);
        }
        return None;
    }
    let (had_user, had_token) = (table.had("user"), table.had("token"));
    if table.had(PAT) {
        for key in ["user", "token"] {
            if let Some(span) = table.place_of(key) {
                let message =
                    format!("is not used: `{PAT}` stands beside it and wins; remove one of the two");
                problems.warn(span, table.key(key), message);
            }
        }
        return Some(Auth::Bearer(pat?.value));
    }
    match (had_user, had_token) {
        (true, true) => Some(Auth::Basic {
            user: user?,
            password: token?.value,
        }),
        (true, false) => {
            let message = "has no `token` (or password) beside it";
            missing(table, "user", message, "token", problems);
            None
        }
        (false, true) => {
            let but = if cloud {
                "has no `user` beside it: the email address of the account that the token belongs to"
                    .to_string()
            } else {
                format!(
                    "has no `user` beside it; a Personal Access Token needs none and is written as `{PAT}`"
                )
            };
            missing(table, "token", &but, "user", problems);
            None
        }
        (false, false) => {
            let key = if cloud { "token" } else { PAT };
            if !table.has_like(key) {
                let message = if cloud {
                    "is missing; add `user = \"auditor@acme.example\"` and `token = { file = \"/path\" }`"
                        .to_string()
                } else {
                    format!("is missing; add `{PAT} = {{ file = \"/path\" }}`, or `user` and `token`")
                };
                problems.add(&table.span, table.key(key), message);
            }
            None
        }
    }
}

/// Reports at `there` that `lacking` is missing; not if it is there and only misspelt, which is told then.
fn missing(table: &Table, there: &str, message: &str, lacking: &str, problems: &mut Problems) {
    if let Some(span) = table.place_of(there).filter(|_| !table.has_like(lacking)) {
        let example = if lacking == "user" {
            "\"…\""
        } else {
            "{ file = \"/path\" }"
        };
        let message = format!("{message}; add `{lacking} = {example}`");
        problems.add(span, table.key(there), message);
    }
}

fn good_user(user: ConfigValue<String>, cloud: bool, problems: &mut Problems) -> Option<String> {
    if user.value.contains(':') || user.value.chars().any(char::is_control) {
        let message =
            "holds a colon or a control character, which no user name may; the password belongs in `token`";
        problems.add(&user.span, user.key, message);
        return None;
    }
    if cloud && !user.value.contains('@') {
        let message =
            "is no email address, and Cloud knows accounts by it alone; write the one of the token's account";
        problems.warn(&user.span, user.key, message);
    }
    Some(user.value)
}

/// `user` and `password`: both or none.
pub fn pair(table: &mut Table, problems: &mut Problems) -> Option<(String, Reference)> {
    let user = table.text("user", "agent", problems);
    let password = table.reference("password", problems);
    for (there, lacking) in [("user", "password"), ("password", "user")] {
        if table.had(there) && !table.had(lacking) {
            missing(
                table,
                there,
                &format!("has no `{lacking}` beside it"),
                lacking,
                problems,
            );
        }
    }
    let (user, password) = (user?, password?);
    warn_inline(&password, problems);
    Some((good_user(user, false, problems)?, password.value))
}
