//! Looks up the authors of searches that were read from files, to recognise the agent's own.

use super::checks::configured_user;
use super::page::Page;
use super::response::{self, ResponseClass};
use super::self_activity::{SelfActivity, SharedSelfActivity};
use super::state::Api;
use super::window::Window;
use super::window_reader::{Attempts, WindowReader};
use crate::notice::Notice;
use crate::position::AgentUser;
use crate::record::{Parsed, Scratch, parse};
use std::sync::Arc;

impl Api {
    /// `saved`: the agent's user as the checkpoint has stored it.
    pub fn with_agent_user(self, saved: Option<AgentUser>) -> Api {
        *self.checks.self_activity() = SelfActivity::new(configured_user(&self.config), saved);
        self
    }

    /// The agent's user, to share with the reader of the files.
    pub fn shared_self_activity(&self) -> SharedSelfActivity {
        Arc::clone(&self.checks.self_activity)
    }

    /// Makes the next step request the rows of this time (milliseconds since 1970), which name the author of a search.
    pub fn request_author(&mut self, at_ms: i64) {
        self.checks.author_requested_ms = Some(at_ms);
    }

    pub(super) async fn look_up_author(&mut self, at_ms: i64) {
        let (route, Some(base)) = (self.endpoint.route, &self.endpoint.base) else {
            return;
        };
        let reader = WindowReader::new(Window::new(at_ms, at_ms, false), route, Attempts::default());
        let requested = reader.rows_asked(self.poll.page_size.rows());
        let url = reader.url(base, requested);
        self.total.requests += 1;
        let result = self.client.get(&url).await;
        let class = response::classify(&result, &self.config.product);
        let (Ok(response), ResponseClass::Ok) = (result, &class) else {
            // The next poll has the same fault and logs it.
            let reason = class.message();
            tracing::debug!(source = self.source, reason, "the author of a search cannot be looked up");
            return;
        };
        let mut activity = self.checks.self_activity();
        activity.learn_user_name(response.header("x-ausername"));
        let Ok(page) = Page::parse(route, response.body, requested) else {
            return;
        };
        activity.response_received();
        learn_authors(&page, &mut activity);
    }

    /// Events about the agent itself that are not delivered yet.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.checks.notices)
    }
}

fn learn_authors(page: &Page, activity: &mut SelfActivity) {
    let mut scratch = Scratch::default();
    for row in 0..page.len() {
        if let Parsed::Record(record) = parse(page.row(row), &mut scratch) {
            activity.is_own_search(&record);
        }
    }
}
