//! `completions` and `man`: both from the definitions of the command line, so that neither can be out of date.

mod config_page;

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;

/// Writes a completion script for a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics when its output cannot be written: give it memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), crate::NAME, &mut script);
    out.write_all(&script)
}

/// Writes a man page for the program, each of its commands and the configuration into a directory, or the main page to `out`.
pub fn man(dir: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            clap_mangen::generate_to(Cli::command(), dir)?;
            std::fs::write(dir.join(format!("{}.toml.5", crate::NAME)), config_page::page())
        }
        None => clap_mangen::Man::new(Cli::command()).render(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_options() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            completions(*shell, &mut script).unwrap();
            assert!(String::from_utf8(script).unwrap().contains("dry-run"), "{shell}");
        }
    }

    #[test]
    fn every_command_gets_a_page() {
        let dir = tempfile::tempdir().unwrap();
        man(Some(dir.path()), &mut io::sink()).unwrap();
        for command in [
            "",
            "-run",
            "-convert",
            "-check",
            "-state",
            "-state-forget",
            "-quarantine-replay",
        ] {
            let page = dir.path().join(format!("{}{command}.1", crate::NAME));
            assert!(page.is_file(), "{}", page.display());
        }
        let page = dir.path().join(format!("{}.toml.5", crate::NAME));
        assert!(page.is_file(), "{}", page.display());
    }
}
