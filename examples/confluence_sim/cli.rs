//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::sim::{Fault, NameForm, Options, RateHeaders};

/// Serves a simulated Confluence on 127.0.0.1: the audit API of Data Center or Cloud over a folder of records, and audit
/// files if wanted. It prints its URL, a token, and a configuration for the agent, which it also writes to a file.
#[derive(Parser)]
#[command(name = "confluence_sim")]
pub struct Arguments {
    /// Folder or file of audit records: file lines, entities, Cloud records, whole answers. Default: this project's fixtures
    #[arg(long, value_name = "PATH")]
    records: Option<PathBuf>,
    /// Leave the times of the records as they are; else the newest is moved to now, and all others with it
    #[arg(long)]
    pub keep_times: bool,
    /// So many further events, one a second up to now, made as they are read
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub generate: u64,
    /// Let new events happen at this rate
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    pub events_per_second: f64,
    /// The API shows these new events so many seconds late
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub late_seconds: f64,

    /// Be a Confluence Cloud site instead of a Data Center
    #[arg(long)]
    cloud: bool,
    /// Cloud: print the token with scopes, which is good under /ex/confluence only
    #[arg(long)]
    pub scoped: bool,
    #[arg(long, default_value_t = 0, help = "0: any free port")]
    port: u16,
    /// Data Center: such as /confluence
    #[arg(long, default_value = "", value_name = "PATH")]
    context_path: String,
    /// Data Center: only /rest/api/audit is there
    #[arg(long)]
    older_than_7_5: bool,
    /// Demand a CAPTCHA after so many failed logins by Basic
    #[arg(long, value_name = "N")]
    captcha_after: Option<u32>,
    /// Where config.toml and the token are written, and where the agent's state goes
    #[arg(long, value_name = "DIR", default_value = "target/confluence-sim")]
    pub dir: PathBuf,

    /// Write audit files too, to log/audit in this directory
    #[arg(long, value_name = "HOME")]
    pub write_files: Option<PathBuf>,
    #[arg(
        long,
        value_enum,
        default_value = "dot",
        help = "20260105.00000.audit.log or 20260105-00000.audit.log"
    )]
    pub name_form: Form,
    /// A new file at this size
    #[arg(long, value_name = "BYTES", default_value_t = 100 << 20)]
    pub rotate_bytes: u64,
    /// Lines written at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch_lines: usize,
    /// Leave the last line of each batch half-written until the next
    #[arg(long)]
    pub tear: bool,
    /// Be this node of a cluster
    #[arg(long, default_value = "", value_name = "ID")]
    pub node: String,

    /// Misbehave; may be given several times
    #[arg(long, value_enum, value_name = "HOW")]
    pub misbehave: Vec<Misbehaviour>,
    /// First fetch of events that is misbehaved to
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub from_request: u64,
    /// Last such fetch; without it there is no end
    #[arg(long, value_name = "N")]
    pub until_request: Option<u64>,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    pub requests_max: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    Dot,
    Dash,
}

impl From<Form> for NameForm {
    fn from(form: Form) -> NameForm {
        match form {
            Form::Dot => NameForm::Dot,
            Form::Dash => NameForm::Dash,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Misbehaviour {
    /// Two new events before each further page
    PageDrift,
    EndlessCursor,
    EmptyPages,
    ForeignNextLink,
    /// Ten rows a page at most
    PageCap,
    LoginPage,
    Redirect,
    Unauthorized,
    Forbidden,
    Captcha,
    WrongScope,
    /// Retry-After: 5
    RateLimit,
    RateLimitDate,
    RateLimitIso,
    RateLimitEpoch,
    RateLimitGarbage,
    RateLimitBare,
    TooManySearches,
    ServerError,
    /// 503 with Retry-After: 5
    Unavailable,
    NotJson,
    MissingMember,
    SlowHead,
    /// One byte a second
    SlowBody,
    EndlessBody,
    /// 300 KiB of blanks for each row asked for
    HugeBody,
    CutBody,
    Hangup,
}

impl Misbehaviour {
    pub fn fault(self) -> Fault {
        match self {
            Misbehaviour::PageDrift => Fault::InsertBetweenPages { rows: 2, age_ms: 0 },
            Misbehaviour::EndlessCursor => Fault::EndlessCursor,
            Misbehaviour::EmptyPages => Fault::EmptyPages,
            Misbehaviour::ForeignNextLink => Fault::ForeignNextLink("http://elsewhere.invalid".into()),
            Misbehaviour::PageCap => Fault::PageCap(10),
            Misbehaviour::LoginPage => Fault::LoginPage,
            Misbehaviour::Redirect => Fault::Redirect("http://elsewhere.invalid/login".into()),
            Misbehaviour::Unauthorized => Fault::Unauthorized,
            Misbehaviour::Forbidden => Fault::Forbidden,
            Misbehaviour::Captcha => Fault::Captcha,
            Misbehaviour::WrongScope => Fault::WrongScope,
            Misbehaviour::RateLimit => Fault::TooManyRequests(RateHeaders::Bucket(5)),
            Misbehaviour::RateLimitDate => Fault::TooManyRequests(RateHeaders::HttpDate(5)),
            Misbehaviour::RateLimitIso => Fault::TooManyRequests(RateHeaders::IsoReset(60)),
            Misbehaviour::RateLimitEpoch => Fault::TooManyRequests(RateHeaders::EpochReset(5)),
            Misbehaviour::RateLimitGarbage => Fault::TooManyRequests(RateHeaders::Garbage),
            Misbehaviour::RateLimitBare => Fault::TooManyRequests(RateHeaders::Absent),
            Misbehaviour::TooManySearches => Fault::TooManySearches,
            Misbehaviour::ServerError => Fault::Status(500, Vec::new()),
            Misbehaviour::Unavailable => Fault::Status(503, vec![("Retry-After".into(), "5".into())]),
            Misbehaviour::NotJson => Fault::NotJson,
            Misbehaviour::MissingMember => Fault::MissingMember("pagingInfo"),
            Misbehaviour::SlowHead => Fault::SlowHead(Duration::from_secs(300)),
            Misbehaviour::SlowBody => Fault::SlowBody { bytes: 1, pause: Duration::from_secs(1) },
            Misbehaviour::EndlessBody => Fault::EndlessBody,
            Misbehaviour::HugeBody => Fault::PaddedRows(300 << 10),
            Misbehaviour::CutBody => Fault::CutBody(100),
            Misbehaviour::Hangup => Fault::Hangup,
        }
    }
}

impl Arguments {
    pub fn options(&self) -> Options {
        let options = if self.cloud { Options::cloud() } else { Options::data_center() };
        Options {
            port: self.port,
            context_path: self.context_path.clone(),
            older_than_7_5: self.older_than_7_5,
            captcha_after: self.captcha_after,
            serving_node: self.node.clone(),
            ..options
        }
    }

    pub fn records(&self) -> PathBuf {
        let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"));
        let own = fixtures.join(if self.cloud { "mapping/cloud.jsonl" } else { "confluence-home" });
        self.records.clone().unwrap_or(own)
    }
}
