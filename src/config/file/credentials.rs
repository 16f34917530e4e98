//! Which credentials of a source are used. Each combination has one outcome.

use crate::config::raw::{ConfigValue, Table};
use crate::config::remote::{Auth, Reference};
use crate::config::words::ensure;

const PAT: &str = "personal_access_token";

/// `None` when they are missing or wrong; that has been reported then, what is missing only if they are `wanted`.
pub(super) fn auth(table: &mut Table, cloud: bool, wanted: bool) -> Option<Auth> {
    let pat = table.reference(PAT);
    let user = user(table, if cloud { "auditor@acme.example" } else { "auditor" }, cloud);
    let token = table.reference("token");
    if !wanted {
        return None;
    }
    [&pat, &token].into_iter().flatten().for_each(ConfigValue::warn_inline);
    if table.had(PAT) && cloud {
        let message =
            "is for Data Center; Cloud knows API tokens: write `user` (an email address) and `token`";
        table.refuse(&[PAT], message);
        return None;
    }
    if table.had(PAT) {
        let message = format!("is not used: `{PAT}` is given too and wins; remove one of the two");
        table.warn(&["user", "token"], &message);
        return Some(Auth::Bearer(pat?.value));
    }
    match (table.had("user"), table.had("token")) {
        (true, true) => {
            return Some(Auth::Basic { user: user?, password: token?.value });
        }
        (true, false) => lacks(table, "user", "token", "needs a `token` (or password)"),
        (false, true) if cloud => {
            let message = "needs a `user`: the email address of the account that the token belongs to";
            lacks(table, "token", "user", message);
        }
        (false, true) => {
            let message =
                format!("needs a `user`; a Personal Access Token needs none and is written as `{PAT}`");
            lacks(table, "token", "user", &message);
        }
        (false, false) if cloud && !table.has_like("token") => table.error(
            "token",
            "is missing; add `user = \"auditor@acme.example\"` and `token = { file = \"/path\" }`",
        ),
        (false, false) if !cloud && !table.has_like(PAT) => table
            .error(PAT, format!("is missing; add `{PAT} = {{ file = \"/path\" }}`, or `user` and `token`")),
        (false, false) => {}
    }
    None
}

/// Reports at `there` that `lacking` is missing; not if it is there and only misspelt, which is reported anyway.
fn lacks(table: &Table, there: &str, lacking: &str, message: &str) {
    if !table.has_like(lacking) {
        let example = if lacking == "user" { "\"…\"" } else { "{ file = \"/path\" }" };
        table.refuse(&[there], &format!("{message}; add `{lacking} = {example}`"));
    }
}

fn user(table: &mut Table, example: &str, cloud: bool) -> Option<String> {
    let user = table.checked("user", example, check_user)?;
    if cloud && !user.contains('@') {
        let message =
            "is no email address, and Cloud knows accounts by it alone; write the one of the token's account";
        table.warn(&["user"], message);
    }
    Some(user)
}

/// `user` and `password`: both or none.
pub(super) fn pair(table: &mut Table) -> Option<(String, Reference)> {
    let user = user(table, "agent", false);
    let password = table.reference("password");
    for (there, lacking) in [("user", "password"), ("password", "user")] {
        if !table.had(lacking) {
            lacks(table, there, lacking, &format!("needs `{lacking}`"));
        }
    }
    let password = password.filter(|_| table.had("user"))?;
    password.warn_inline();
    Some((user?, password.value))
}

fn check_user(user: &str) -> Result<(), String> {
    let message =
        "holds a colon or a control character, which no user name may; the password belongs in `token`";
    ensure(!user.contains(':') && !user.chars().any(char::is_control), message)
}
