//! The commands `completions` and `man`. Both are generated from the definitions of the command line, so they
//! cannot be outdated.

mod config_page;
mod pages;

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;

/// Writes a completion script for a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics if its output cannot be written, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), crate::NAME, &mut script);
    out.write_all(&script)
}

/// Writes man pages for the program, its commands and the configuration to a directory, or the main page to
/// `out`.
pub fn man(dir: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            pages::write(Cli::command(), dir)?;
            std::fs::write(dir.join(format!("{}.toml.5", crate::NAME)), config_page::page())
        }
        None => pages::main_page(Cli::command(), out),
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
        for command in ["", "-run", "-convert", "-check", "-state", "-state-forget", "-quarantine-replay"] {
            let page = dir.path().join(format!("{}{command}.1", crate::NAME));
            assert!(page.is_file(), "{}", page.display());
        }
        let page = dir.path().join(format!("{}.toml.5", crate::NAME));
        assert!(page.is_file(), "{}", page.display());
        for entry in dir.path().read_dir().unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let is_command = path.extension().is_some_and(|extension| extension == "1");
            let sections: &[&str] = match is_command {
                true => &["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "FILES", "SEE ALSO"],
                false => &["NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"],
            };
            for section in sections {
                assert!(
                    text.contains(&format!(".SH {section}\n"))
                        || text.contains(&format!(".SH \"{section}\"\n")),
                    "{section} in {}: {text}",
                    path.display()
                );
            }
            // The title is in the header line of 80 columns twice, with the manual's name between.
            let title = text.lines().find_map(|line| line.strip_prefix(".TH ")).unwrap();
            let title = title.split(' ').next().unwrap().replace('\\', "");
            assert!(title.len() <= 30, "{title}");
        }
        let run = std::fs::read_to_string(dir.path().join(format!("{}-run.1", crate::NAME))).unwrap();
        assert!(run.contains(".SH EXAMPLES\n"), "{run}");
        assert!(run.contains("\\fB\\-\\-config\\fR \\fIFILE\\fR"), "{run}");
    }
}
