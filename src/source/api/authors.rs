//! Who the agent is to Confluence, and who made the searches that files show.

use super::answer::{self, AnswerClass};
use super::page::Page;
use super::self_activity::{SelfActivity, SharedSelfActivity};
use super::state::Api;
use super::watch::configured_user;
use super::window::Window;
use super::window_reader::{Attempts, WindowReader};
use crate::notice::Notice;
use crate::position::AgentUser;
use crate::record::{Parsed, Scratch, parse};
use std::sync::Arc;

impl Api {
    /// What the checkpoint knows of the agent's user.
    pub fn with_agent_user(self, saved: Option<AgentUser>) -> Api {
        *self.watch.self_activity() = SelfActivity::new(configured_user(&self.config), saved);
        self
    }

    /// What is known of the agent's user.
    pub fn shared_self_activity(&self) -> SharedSelfActivity {
        Arc::clone(&self.watch.self_activity)
    }

    /// Asks next for what was searched at this time, to see by whom: a file does not tell the name.
    pub fn want_author(&mut self, at_ms: i64) {
        self.watch.author_wanted = Some(at_ms);
    }

    pub(super) async fn look_up_author(&mut self, at_ms: i64) {
        let (route, Some(base)) = (self.endpoint.route, &self.endpoint.base) else {
            return;
        };
        let reading = WindowReader::new(Window::new(at_ms, at_ms, false), route, Attempts::default());
        let asked = reading.rows_asked(self.poll.page_size.rows());
        let url = reading.url(base, asked);
        self.total.requests += 1;
        let result = self.client.get(&url).await;
        let class = answer::classify(&result, &self.config.product);
        let (Ok(answer), AnswerClass::Ok) = (result, &class) else {
            // What is wrong the next poll finds and says.
            let reason = class.message();
            tracing::debug!(source = self.source, reason, "who searched the audit log is not told");
            return;
        };
        let mut own = self.watch.self_activity();
        own.learn(answer.header("x-ausername"));
        let Ok(page) = Page::parse(route, answer.body, asked) else {
            return;
        };
        own.answered();
        learn_authors(&page, &mut own);
    }

    /// What happened to the agent itself, as events.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.watch.notices)
    }
}

fn learn_authors(page: &Page, own: &mut SelfActivity) {
    let mut scratch = Scratch::default();
    for row in 0..page.len() {
        if let Parsed::Record(record) = parse(page.row(row), &mut scratch) {
            own.asked(&record);
        }
    }
}
