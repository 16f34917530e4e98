//! Switches the active input of a source with files and an API, by what the files do and what the API finds missing.

use super::flow_control::FlowControl;
use super::ingest::Ingest;
use crate::checkpoint::SourceState;
use crate::clock;
use crate::config::FallbackConfig;
use crate::metrics::SourceMetrics;
use crate::notice::{Notice, SOURCE_SWITCHED, SWITCHED_BACK};
use crate::position::{ActiveInput, Progress};
use crate::source::failover::{ApiRole, FailoverTimeouts, FallbackCause, FileActivity, State, Switch};
use crate::source::files::AuditFiles;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Fallback {
    source: String,
    config: FallbackConfig,
    state: State,
    /// Events of the API since the last update that are missing in the files.
    pub missing: u64,
    /// An earlier process has read the files. If none of its ids are known, the API must not return that time again.
    pub files_read_before: bool,
    flow: Arc<FlowControl>,
    metrics: SourceMetrics,
}

impl Fallback {
    pub(super) fn new(
        source: &str,
        config: FallbackConfig,
        checkpoint: &SourceState,
        (flow, metrics): (Arc<FlowControl>, SourceMetrics),
    ) -> Fallback {
        let active = checkpoint.active_input.clone();
        let state = State::resumed(active.as_ref().and_then(|active| active.api));
        metrics.fallback_active.set(i64::from(state.is_api()));
        flow.health.set_note(active.filter(|_| state.is_api()).map(|active| active.reason));
        Fallback {
            source: source.to_owned(),
            config,
            state,
            missing: 0,
            files_read_before: checkpoint.files.iter().any(|file| file.offset > 0),
            flow,
            metrics,
        }
    }

    /// Whether the API is the active input.
    pub(super) fn is_active(&self) -> bool {
        self.state.is_api()
    }

    /// With `once`, files that cannot be read are replaced by the API at once.
    pub(super) fn role(&self, activity: FileActivity, once: bool) -> ApiRole {
        match once && activity == FileActivity::Unusable {
            true => ApiRole::Deliver,
            false => self.state.role(self.config.file_lag_timeout),
        }
    }

    /// How often the API is polled to compare it with the files.
    pub(super) fn probe_interval(&self) -> Duration {
        self.config.probe_interval
    }

    pub(super) fn lag(&self) -> Duration {
        self.config.file_lag_timeout
    }

    /// When the next timeout ends.
    pub(super) fn due(&self) -> Option<Instant> {
        self.state.due(self.timeouts())
    }

    fn timeouts(&self) -> FailoverTimeouts {
        FailoverTimeouts {
            file_error_timeout: self.config.file_error_timeout,
            file_recovery_timeout: self.config.file_recovery_timeout,
            comparison_time: self.config.file_lag_timeout + self.config.probe_interval,
        }
    }

    /// Updates the state and switches the input if necessary. Returns whether it has switched.
    pub(super) fn update(&mut self, files: &AuditFiles, activity: FileActivity, ingest: &mut Ingest) -> bool {
        let missing = std::mem::take(&mut self.missing);
        let timeouts = self.timeouts();
        let switch = self.state.observe(activity, missing, timeouts, clock::monotonic());
        if let Some(switch) = switch {
            self.switch(switch, missing, files, ingest);
        }
        switch.is_some()
    }

    fn switch(&self, switch: Switch, missing: u64, files: &AuditFiles, ingest: &mut Ingest) {
        let reason = match switch {
            Switch::ToFiles => format!(
                "{SWITCHED_BACK}; reading resumes at the stored position, and events that the API has delivered \
                 are skipped"
            ),
            Switch::ToApi(FallbackCause::Unusable) => {
                let problem = files.health().unwrap_or("the audit files cannot be read");
                format!("the audit API is read instead of the audit files: {problem}")
            }
            Switch::ToApi(FallbackCause::Silent) => format!(
                "the audit API is read alongside the audit files: {missing} event{} did not arrive in them within `file_lag_timeout` \
                 and came from the API",
                if missing == 1 { "" } else { "s" }
            ),
        };
        let at_ms = clock::now_ms();
        match switch {
            Switch::ToFiles => tracing::info!(source = self.source, "{reason}"),
            Switch::ToApi(_) => tracing::warn!(source = self.source, "{reason}"),
        }
        let occasion = at_ms.to_string();
        let notice = Notice::new(SOURCE_SWITCHED, &self.source, &occasion, at_ms, reason.clone());
        ingest.encode_notice(&notice);
        let api = match switch {
            Switch::ToApi(cause) => Some(cause),
            Switch::ToFiles => None,
        };
        self.metrics.fallback_active.set(i64::from(api.is_some()));
        self.metrics.switches.inc();
        self.flow.health.set_note(api.map(|_| reason.clone()));
        ingest.flush(Progress {
            active_input: Some(ActiveInput { api, since_ms: at_ms, reason }),
            ..Progress::default()
        });
    }
}
