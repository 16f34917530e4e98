//! The words of an action: what was done, and whether it succeeded. An action is a key
//! (`audit.logging.summary.space.export`) or an English label of Cloud ("User added to group"). Words are
//! separated by non-letters.

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Import,
    Delete,
    Update,
    Move,
    Enable,
    Disable,
    Lock,
    Unlock,
    Reset,
    Read,
    Search,
    Export,
    LogIn,
    LogOut,
}

/// The meaning of an action's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ActionWords<'a> {
    pub verb: Option<Verb>,
    /// The word before the verb: the object of the action.
    pub noun: Option<&'a str>,
    /// The label has a preposition after the verb: "User removed from space" does not remove a user.
    pub has_preposition: bool,
    /// `Some(false)`: the attempt failed.
    pub succeeded: Option<bool>,
}

/// Maximum number of words, counted from the end. Earlier ones are ignored.
const WORDS_MAX: usize = 24;

impl<'a> ActionWords<'a> {
    /// The verb is the last word. After it a word may tell the outcome ("failed", "completed"), or a
    /// preposition may follow: "Page moved to trash". Some verbs are recognised anywhere: `space.export.pdf`.
    pub(super) fn of(action: &'a str) -> Self {
        let mut words = [""; WORDS_MAX];
        let mut count = 0;
        for word in words_reversed(action).take(WORDS_MAX) {
            count += 1;
            words[WORDS_MAX - count] = word;
        }
        let words = &words[WORDS_MAX - count..];
        let mut parsed = ActionWords::default();
        let mut end = words.len();
        loop {
            parsed.read_end(&words[..end]);
            if parsed.verb.is_some() {
                return parsed;
            }
            match words[..end].iter().rposition(|word| is(word, PREPOSITIONS)) {
                Some(at) => end = at,
                None => break,
            }
            parsed.has_preposition = true;
        }
        if let Some(at) = words.iter().rposition(|word| is(word, UNAMBIGUOUS)) {
            parsed.verb = verb(words[at]);
            parsed.noun = at.checked_sub(1).map(|before| words[before]);
        }
        parsed
    }

    pub(super) fn has_noun(&self, wanted: &str) -> bool {
        self.noun.is_some_and(|noun| is(noun, wanted))
    }

    fn read_end(&mut self, words: &[&'a str]) {
        let mut words = words;
        // Most actions end with a verb, so nothing else is searched for.
        while let [before @ .., last] = words
            && verb(last).is_none()
        {
            match outcome(last) {
                Some(OutcomeWord::Known(succeeded)) => self.succeeded = self.succeeded.or(Some(succeeded)),
                Some(OutcomeWord::Neutral) => {}
                None => break,
            }
            words = before;
        }
        let before;
        (before, self.verb) = match words {
            [before @ .., first, second] if pair(first, second).is_some() => (before, pair(first, second)),
            // With an outcome this is a login attempt, otherwise a setting.
            [before @ .., last] if is(last, "auth authentication") => {
                (before, self.succeeded.map(|_| Verb::LogIn))
            }
            [before @ .., last] => (before, verb(last)),
            [] => (words, None),
        };
        self.noun = before.last().copied();
    }

    /// A user joins or leaves a group: "User added to group", `group.member.removed`.
    pub(super) fn is_membership(&self, action: &str) -> bool {
        self.has_noun("member members membership memberships")
            || self.has_preposition && has_word(action, "group groups")
    }
}

/// Whether the action contains one of these words, which are separated by blanks.
pub(super) fn has_word(action: &str, wanted: &str) -> bool {
    words_reversed(action).any(|word| is(word, wanted))
}

fn words_reversed(action: &str) -> impl Iterator<Item = &str> {
    action.rsplit(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty())
}

/// Whether `word` is one of the wanted words, which are separated by blanks.
fn is(word: &str, wanted: &str) -> bool {
    wanted.split_ascii_whitespace().any(|wanted| word.eq_ignore_ascii_case(wanted))
}

const PREPOSITIONS: &str = "about after against as at because before between by during for from in into of on onto through to using via when while with within without";

/// Verbs with the same meaning anywhere in the action.
const UNAMBIGUOUS: &str = "backup emptied export exported import imported purge purged reset";

enum OutcomeWord {
    Known(bool),
    /// The action began or ended, and the outcome is not known.
    Neutral,
}

fn outcome(word: &str) -> Option<OutcomeWord> {
    let is = |wanted: &str| is(word, wanted);
    if is("failed failure fails unsuccessful denied rejected refused") {
        Some(OutcomeWord::Known(false))
    } else if is("success successful successfully succeeded") {
        Some(OutcomeWord::Known(true))
    } else if is("attempted completed finished initiated performed requested started") {
        Some(OutcomeWord::Neutral)
    } else {
        None
    }
}

/// Verbs of two words: "turned off", "logged in".
fn pair(first: &str, second: &str) -> Option<Verb> {
    let is_first = |wanted: &str| is(first, wanted);
    let is_second = |wanted: &str| is(second, wanted);
    if is_first("turned turn switched switch toggled") {
        if is_second("on") {
            return Some(Verb::Enable);
        }
        return is_second("off").then_some(Verb::Disable);
    }
    if is_first("logged log signed sign") {
        if is_second("in on") {
            return Some(Verb::LogIn);
        }
        return is_second("out off").then_some(Verb::LogOut);
    }
    (is_first("locked") && is_second("out")).then_some(Verb::Lock)
}

fn verb(word: &str) -> Option<Verb> {
    // No verb is longer, and all are ASCII.
    let mut lower = [0; 16];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Some(match std::str::from_utf8(lower).ok()? {
        "added" | "assigned" | "copied" | "copy" | "created" | "creation" | "duplicated" | "generated"
        | "granted" | "installed" | "invited" | "issued" | "joined" | "registered" | "uploaded" => {
            Verb::Create
        }
        "import" | "imported" => Verb::Import,
        "cleared" | "deleted" | "deletion" | "emptied" | "erased" | "purge" | "purged" | "removal"
        | "removed" | "revoked" | "trashed" | "unassigned" | "uninstalled" | "wiped" => Verb::Delete,
        "archived" | "changed" | "converted" | "edited" | "merged" | "migrated" | "modified"
        | "published" | "renamed" | "replaced" | "restored" | "reverted" | "rotated" | "unarchived"
        | "unpublished" | "updated" | "upgraded" => Verb::Update,
        "move" | "moved" | "transferred" => Verb::Move,
        "activated" | "enabled" | "reactivated" | "reenabled" | "unblocked" | "unsuspended" => Verb::Enable,
        "blocked" | "deactivated" | "disabled" | "suspended" => Verb::Disable,
        "locked" => Verb::Lock,
        "unlocked" => Verb::Unlock,
        "reset" => Verb::Reset,
        "accessed" | "downloaded" | "viewed" => Verb::Read,
        "search" | "searched" => Verb::Search,
        "backup" | "export" | "exported" => Verb::Export,
        "authenticated" | "login" | "logon" | "signin" => Verb::LogIn,
        "logoff" | "logout" | "signout" => Verb::LogOut,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_outcomes() {
        for (action, verb, succeeded) in [
            ("audit.logging.summary.site.export", Some(Verb::Export), None),
            ("x.y.backup.exported", Some(Verb::Export), None),
            ("audit.logging.summary.space.export.pdf", Some(Verb::Export), None),
            ("plugin.import.failed", Some(Verb::Import), Some(false)),
            ("user.password.reset.failed", Some(Verb::Reset), Some(false)),
            ("x.sudo.auth.failed", Some(Verb::LogIn), Some(false)),
            ("x.failed", None, Some(false)),
            ("x.settings.auth", None, None),
            ("space_export_completed", Some(Verb::Export), None),
            ("Import from Trello failed", Some(Verb::Import), Some(false)),
            ("Login failed for user", Some(Verb::LogIn), Some(false)),
            ("Space exported successfully", Some(Verb::Export), Some(true)),
            ("Page moved to trash", Some(Verb::Move), None),
            ("Public links turned on for the space", Some(Verb::Enable), None),
            ("public.links.turned.off", Some(Verb::Disable), None),
            ("User logged in", Some(Verb::LogIn), None),
            ("User signed out", Some(Verb::LogOut), None),
            ("User reactivated", Some(Verb::Enable), None),
            ("TRASH EMPTIED!", Some(Verb::Delete), None),
            // Words end at non-letters, and a verb counts only at the end.
            ("x.created.2", Some(Verb::Create), None),
            ("x.created.report", None, None),
            ("écreated", None, None),
            ("recreated", None, None),
            ("x.exporter", None, None),
            ("Benutzer hinzugefügt", None, None),
            ("on", None, None),
            ("to the", None, None),
            ("…", None, None),
            ("", None, None),
        ] {
            let found = ActionWords::of(action);
            assert_eq!((found.verb, found.succeeded), (verb, succeeded), "{action}");
        }
        for (action, noun, has_preposition) in [
            ("audit.logging.summary.user.password.reset", Some("password"), false),
            ("user.password.reset.failed", Some("password"), false),
            ("Public links turned off", Some("links"), false),
            ("User removed from space", Some("User"), true),
            ("x.space.export.pdf", Some("space"), false),
            ("reset", None, false),
        ] {
            let found = ActionWords::of(action);
            assert_eq!((found.noun, found.has_preposition), (noun, has_preposition), "{action}");
        }
        // The length does not matter.
        let long = format!("{} exported", "word ".repeat(100_000));
        assert_eq!(ActionWords::of(&long).verb, Some(Verb::Export));
        assert_eq!(ActionWords::of(&"to ".repeat(100_000)).verb, None);
    }
}
