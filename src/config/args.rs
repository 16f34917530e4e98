//! The whole configuration: a file, options, or options on top of a file.

use std::io;
use std::path::{Path, PathBuf};

use super::checked::*;
use super::errors::{ConfigError, ConfigErrors};
use super::home::HomeFound;
use super::remote::{ApiConfig, Auth, HttpConfig, Product, Reference};
use super::words::{choose, ensure};
use super::{file, home, self_include};
use crate::access;
use crate::cli::{CONFIG_PATH, Options, StatusArgs};

/// Where systemd's `RuntimeDirectory` puts the admin socket of the service.
const ADMIN_SOCKET: &str = "/run/confluence-audit-agent/admin.sock";
/// Name of the one source that options alone make.
const SOURCE_NAME: &str = "confluence";

/// What the options say, checked.
#[derive(Default)]
struct Overrides {
    state_dir: Option<PathBuf>,
    location: Option<FileLocation>,
    sink: Option<SinkKind>,
    format: Option<FormatKind>,
    log_format: Option<LogFormat>,
    log_level: Option<tracing::Level>,
}

/// Builds the configuration. Without `--config`, `--home`, `--files` or `--url` the default file is read; with one
/// of the last three but no `--config`, none. On top of a file, an option replaces what the file says.
///
/// The error holds everything that is wrong. Nothing was changed on the host.
pub fn load(options: &Options) -> Result<Config, ConfigErrors> {
    let hint = "name the right file with `--config FILE`, or run without a file: `--home DIR`";
    load_or(options, hint)
}

/// The same for commands that take `--config` and neither `--home` nor `--url`.
pub fn load_file(options: &Options) -> Result<Config, ConfigErrors> {
    load_or(options, "name the right file with `--config FILE`")
}

fn load_or(options: &Options, hint: &str) -> Result<Config, ConfigErrors> {
    let mut errors = Vec::new();
    let overrides = overrides(options, &mut errors);
    let base = if options.without_file() {
        Ok(from_options(options, &mut errors))
    } else {
        let path = options.config.as_deref().unwrap_or(Path::new(CONFIG_PATH));
        read(path, options.sink.is_some(), hint)
    };
    let base = match base {
        Ok(base) => ConfigErrors(errors).or(base)?,
        Err(ConfigErrors(all)) => return Err(ConfigErrors([all, errors].concat())),
    };
    let config = apply(base, overrides)?;
    ConfigErrors(self_include(&config)).or(config)
}

/// The state directory that `state …` works on.
pub fn state_dir(location: &crate::cli::StateLocation) -> Result<PathBuf, ConfigErrors> {
    match &location.state {
        Some(dir) => in_cwd("--state", dir).map_err(|error| ConfigErrors(vec![error])),
        None => {
            let path = location.config.as_deref().unwrap_or(Path::new(CONFIG_PATH));
            let hint = "name the right file with `--config FILE`, or the state directory with `--state DIR`";
            read(path, true, hint).map(|config| config.state_dir)
        }
    }
}

/// The admin endpoint that a command asks.
pub struct AdminEndpoint {
    pub admin: AdminConfig,
    /// The configuration that the agent there must have. `None`: any.
    pub config_file: Option<PathBuf>,
}

impl AdminEndpoint {
    /// The endpoint of a configuration, and the socket of the service if it names none. Another agent may have that
    /// one: `asked` is the file that somebody has named.
    pub fn new(admin: AdminConfig, asked: Option<&Path>) -> AdminEndpoint {
        // The commands speak no TLS.
        match admin.socket.is_none() && (admin.listen.is_none() || admin.tls.is_some()) {
            true => AdminEndpoint {
                admin: AdminConfig { socket: Some(ADMIN_SOCKET.into()), ..admin },
                config_file: asked.map(Path::to_owned),
            },
            false => AdminEndpoint { admin, config_file: None },
        }
    }
}

/// The admin endpoint that `status` asks.
pub fn admin_endpoint(args: &StatusArgs) -> Result<AdminEndpoint, ConfigErrors> {
    let admin = match &args.socket {
        Some(path) => AdminConfig { socket: Some(path.clone()), ..AdminConfig::default() },
        None => {
            let path = args.config.as_deref().unwrap_or(Path::new(CONFIG_PATH));
            read(path, true, "name the right file with `--config FILE`, or the socket with `--socket PATH`")?
                .admin
        }
    };
    Ok(AdminEndpoint::new(admin, args.config.as_deref()))
}

/// The word after `--format`.
pub fn format_kind(word: &str) -> Result<FormatKind, ConfigError> {
    choose(word, &file::FORMATS).map_err(of("--format"))
}

fn read(path: &Path, sinks_follow: bool, hint: &str) -> Result<Config, ConfigErrors> {
    let bytes = std::fs::read(path).map_err(|cause| {
        use io::ErrorKind::*;
        let message = match cause.kind() {
            PermissionDenied => access::denied_message_own("read", path),
            _ => format!("cannot read the configuration `{}`: {cause}; {hint}", path.display()),
        };
        // Where there is no such file, somebody has to write one. Anything else (a permission, a disk) may pass.
        let for_good = [NotFound, IsADirectory, NotADirectory, InvalidInput, InvalidFilename];
        let of_host = !for_good.contains(&cause.kind());
        ConfigErrors(vec![ConfigError { of_host, ..ConfigError::new("", message) }])
    })?;
    let text = String::from_utf8(bytes).map_err(|cause| {
        let good = &cause.as_bytes()[..cause.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let error = ConfigError::new("", "not valid UTF-8; save the file in UTF-8");
        ConfigErrors(vec![ConfigError { location: Some((path.into(), line)), ..error }])
    })?;
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    file::read(path, &text, sinks_follow).map(|config| Config { file: Some(file), ..config })
}

/// What `run --home DIR` or `run --url URL` means besides the home: everything by default, to stdout.
fn from_options(options: &Options, errors: &mut Vec<ConfigError>) -> Config {
    let mut warnings = Vec::new();
    let api = keep(api(options, &mut warnings), errors);
    let files = options.url.is_none();
    let auth = api.as_ref().map(|api| &api.http.auth);
    let secret_files = match auth {
        Some(Auth::Bearer(Reference::File(path))) => vec![path.clone()],
        _ => Vec::new(),
    };
    Config {
        sources: vec![SourceConfig {
            name: SOURCE_NAME.into(),
            site: None,
            files: files.then(|| FilesConfig::new(FileLocation::Files(Vec::new()))),
            api,
            fallback: FallbackConfig::default(),
        }],
        sinks: vec![local_sink("stdout", FormatKind::Ecs, SinkKind::Stdout)],
        warnings,
        secret_files,
        ..Config::default()
    }
}

/// `--url` and `--token-file`, which are given together.
fn api(options: &Options, warnings: &mut Vec<ConfigError>) -> Option<Result<ApiConfig, ConfigError>> {
    let (url, token) = (options.url.as_deref()?, options.token_file.as_deref()?);
    let base = file::data_center(url).map_err(of("--url"));
    let api = base.and_then(|base| {
        if let Some(message) = file::clear_text(&base) {
            warnings.push(ConfigError::new("--url", message));
        }
        let auth = Auth::Bearer(Reference::File(in_cwd("--token-file", token)?));
        Ok(ApiConfig::new(Product::DataCenter, HttpConfig::new(base, auth)))
    });
    Some(api)
}

fn overrides(options: &Options, errors: &mut Vec<ConfigError>) -> Overrides {
    Overrides {
        location: keep(location(options), errors),
        sink: keep(options.sink.as_deref().map(sink), errors),
        format: keep(options.format.as_deref().map(format_kind), errors),
        state_dir: keep(options.state.as_deref().map(|dir| in_cwd("--state", dir)), errors),
        log_format: keep(word("--log-format", &options.log_format, &file::LOG_FORMATS), errors),
        log_level: keep(word("--log-level", &options.log_level, &file::LOG_LEVELS), errors),
    }
}

fn keep<T>(value: Option<Result<T, ConfigError>>, errors: &mut Vec<ConfigError>) -> Option<T> {
    value?.map_err(|error| errors.push(error)).ok()
}

/// What makes an error of an option out of a message.
fn of<M: Into<String>>(option: &str) -> impl Fn(M) -> ConfigError {
    move |message| ConfigError::new(option, message)
}

fn word<T: Copy>(
    option: &str,
    typed: &Option<String>,
    words: &[(&str, T)],
) -> Option<Result<T, ConfigError>> {
    Some(choose(typed.as_deref()?, words).map_err(of(option)))
}

fn location(options: &Options) -> Option<Result<FileLocation, ConfigError>> {
    let found = HomeFound::Option;
    match &options.home {
        Some(home) => Some(in_cwd("--home", home).and_then(|dir| {
            home::check(&dir).map_err(of("--home"))?;
            Ok(FileLocation::Home { dir, found })
        })),
        None if options.files.is_empty() => None,
        None => Some(patterns(&options.files).map(FileLocation::Files)),
    }
}

fn patterns(typed: &[String]) -> Result<Vec<String>, ConfigError> {
    let mut patterns = Vec::new();
    for pattern in typed {
        let message = "is empty; write a pattern, as in '/srv/audit/*.audit.log'";
        ensure(!pattern.is_empty(), message).map_err(of("--files"))?;
        patterns.push(if Path::new(pattern).is_absolute() {
            pattern.clone()
        } else {
            // Only what was typed is a pattern: a directory's name may hold brackets.
            let cwd = in_cwd("--files", Path::new("."))?;
            let cwd = glob::Pattern::escape(cwd.to_string_lossy().trim_end_matches('/'));
            format!("{cwd}/{}", pattern.trim_start_matches("./"))
        });
    }
    file::check_patterns(&patterns).map_err(of("--files"))?;
    Ok(patterns)
}

fn sink(text: &str) -> Result<SinkKind, ConfigError> {
    let message = match text.strip_prefix("file:") {
        None if text == "stdout" => return Ok(SinkKind::Stdout),
        None if text.contains('/') => format!("`{text}` is no sink; did you mean `file:{text}`?"),
        None => format!("`{text}` is no sink; write `stdout` or `file:PATH`"),
        Some("") => "`file:` names no file; write `file:PATH`".into(),
        Some(path) => {
            file::check_sink_path(path, false).map_err(of("--sink"))?;
            return Ok(SinkKind::File(FileSinkConfig::new(in_cwd("--sink", Path::new(path))?)));
        }
    };
    Err(of("--sink")(message))
}

fn local_sink(name: &str, format: FormatKind, kind: SinkKind) -> SinkConfig {
    SinkConfig { name: name.to_owned(), format, heartbeat: kind.has_heartbeat(), kind }
}

/// Relative paths of options are meant from the current directory.
fn in_cwd(option: &str, path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| ConfigError {
        of_host: true,
        ..ConfigError::new(option, format!("failed to find the current directory: {error}"))
    })
}

fn apply(mut config: Config, overrides: Overrides) -> Result<Config, ConfigErrors> {
    let mut errors = Vec::new();
    if let Some(location) = overrides.location {
        let option = match location {
            FileLocation::Home { .. } => "--home",
            FileLocation::Files(_) => "--files",
        };
        match &mut config.sources[..] {
            [source] if source.files.is_none() => errors.push(of(option)(format!(
                "source `{}` of the configuration reads no files; leave out this option, or `--config`",
                source.name
            ))),
            [source] => source.files_mut().location = location,
            sources => errors.push(of(option)(format!(
                "the configuration has {} sources and this option does not say which it is for; change the file, or leave out `--config`",
                sources.len()
            ))),
        }
    }
    if let Some(kind) = overrides.sink {
        let name = match &kind {
            SinkKind::File(file) => {
                let path = file.path.to_string_lossy();
                let checked = file::check_sink_path(&path, config.sources.len() > 1);
                errors.extend(checked.map_err(of("--sink")).err());
                "file"
            }
            _ => "stdout",
        };
        let format = config.sinks.first().map_or(FormatKind::Ecs, |sink| sink.format);
        config.sinks = vec![local_sink(name, format, kind)];
    }
    if let Some(format) = overrides.format {
        config.sinks.iter_mut().for_each(|sink| sink.format = format);
    }
    config.state_dir = overrides.state_dir.unwrap_or(config.state_dir);
    config.log.format = overrides.log_format.unwrap_or(config.log.format);
    config.log.level = overrides.log_level.unwrap_or(config.log.level);
    ConfigErrors(errors).or(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(arguments: &[&str]) -> Options {
        let cli = crate::cli::Cli::try_parse_from(["agent", "run"].iter().chain(arguments)).unwrap();
        let crate::cli::Command::Run(run) = cli.command else { panic!("not run") };
        run.options
    }

    fn config(arguments: &[&str]) -> Config {
        load(&options(arguments)).unwrap()
    }

    const FILE: &str = r#"
state_dir = "/state"
shutdown_timeout = "7s"

[[source]]
name = "wiki"
type = "data_center"
home = "/data/wiki"
start_at = "end"

[[sink]]
name = "one"
type = "file"
path = "/out/one"
format = "raw"

[[sink]]
name = "two"
type = "stdout"
"#;

    #[test]
    fn options_alone_mean_what_the_same_file_means() {
        let text = r#"
state_dir = "/state"
log = { format = "json", level = "debug" }
[[source]]
name = "confluence"
type = "data_center"
home = "/data/wiki"
[[sink]]
name = "file"
type = "file"
path = "/out/events"
format = "raw"
"#;
        let mut file = file::read(Path::new("x"), text, false).unwrap();
        // Only a name that somebody chose is a site's name, and how the home was found is reported.
        file.sources[0].site = None;
        file.sources[0].files_mut().location =
            FileLocation::Home { dir: "/data/wiki".into(), found: HomeFound::Option };
        let options = config(&[
            "--home",
            "/data/wiki",
            "--sink",
            "file:/out/events",
            "--format",
            "raw",
            "--state",
            "/state",
            "--log-format",
            "json",
            "--log-level",
            "debug",
        ]);
        assert_eq!(options, file);
    }

    #[test]
    fn an_api_by_options_means_what_the_same_file_means() {
        let text = r#"
[[source]]
name = "confluence"
type = "data_center"
url = "http://c.example.com/wiki"
personal_access_token = { file = "/token" }
[[sink]]
name = "stdout"
type = "stdout"
"#;
        let mut file = file::read(Path::new("x"), text, false).unwrap();
        file.sources[0].site = None;
        let mut options = config(&["--url", "http://c.example.com/wiki/", "--token-file", "/token"]);
        assert_eq!(options.warnings.len(), 1);
        assert_eq!(options.warnings[0].message, file.warnings[0].message);
        options.warnings = file.warnings.clone();
        assert_eq!(options, file);
    }

    #[test]
    fn relative_options_are_meant_from_here() {
        let here = std::env::current_dir().unwrap();
        let config =
            config(&["--files", "./none/a/*.log", "none/b.log", "--sink", "file:out", "--state", "state"]);
        assert_eq!(config.state_dir, here.join("state"));
        let SinkKind::File(file) = &config.sinks[0].kind else { panic!("no file") };
        assert_eq!(file.path, here.join("out"));
        let here = glob::Pattern::escape(here.to_str().unwrap());
        let expected = vec![format!("{here}/none/a/*.log"), format!("{here}/none/b.log")];
        assert_eq!(config.sources[0].files.clone().unwrap().location, FileLocation::Files(expected));
    }

    #[test]
    fn options_replace_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, FILE).unwrap();
        let path = path.to_str().unwrap();
        let base = config(&["--config", path]);
        assert_eq!((base.sinks.len(), base.shutdown_timeout.as_secs()), (2, 7));

        let changed = config(&["--config", path, "--home", "/data/other", "--state", "/s"]);
        let home = FileLocation::Home { dir: "/data/other".into(), found: HomeFound::Option };
        let mut expected = Config { state_dir: "/s".into(), ..base.clone() };
        expected.sources[0].files_mut().location = home;
        assert_eq!(changed, expected, "the rest of the source stays");

        let changed = config(&["--config", path, "--sink", "stdout"]);
        let only = local_sink("stdout", FormatKind::Raw, SinkKind::Stdout);
        assert_eq!(changed.sinks, [only], "all sinks are replaced, the format stays");

        let changed = config(&["--config", path, "--format", "ecs"]);
        assert!(changed.sinks.iter().all(|sink| sink.format == FormatKind::Ecs));
        assert_eq!(changed.sinks.len(), 2);
    }

    #[test]
    fn a_file_without_sinks_will_do_when_an_option_names_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, FILE.split("[[sink]]").next().unwrap()).unwrap();
        let path = path.to_str().unwrap();
        assert!(load(&options(&["--config", path])).unwrap_err().to_string().contains("add a `[[sink]]`"));
        assert_eq!(config(&["--config", path, "--sink", "stdout"]).sinks.len(), 1);
    }

    #[test]
    fn at_the_socket_of_the_service_only_the_named_configuration_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("second.toml");
        let endpoint = |admin: &str, named: bool| {
            std::fs::write(&path, format!("{admin}\n{FILE}")).unwrap();
            let config = path.to_str().unwrap();
            let option = if named { ["--config", config] } else { ["--socket", "/s"] };
            let cli = crate::cli::Cli::try_parse_from(["agent", "status"].iter().chain(&option)).unwrap();
            let crate::cli::Command::Status(args) = cli.command else { panic!("not status") };
            let AdminEndpoint { admin, config_file } = admin_endpoint(&args).unwrap();
            (admin.socket, config_file)
        };
        assert_eq!(endpoint("", true), (Some(ADMIN_SOCKET.into()), Some(path.clone())));
        assert_eq!(endpoint("admin.socket = \"/r/a.sock\"", true), (Some("/r/a.sock".into()), None));
        assert_eq!(endpoint("admin.listen = \"127.0.0.1:9640\"", true), (None, None));
        assert_eq!(endpoint("", false), (Some("/s".into()), None));
    }

    #[test]
    fn a_file_that_is_no_text_is_reported_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, b"shutdown_timeout = \"1s\"\n# \xff\n").unwrap();
        let error = load(&options(&["--config", path.to_str().unwrap()])).unwrap_err().to_string();
        assert!(error.ends_with("config.toml:2: not valid UTF-8; save the file in UTF-8"), "{error}");
    }
}
