//! The help in other forms, all from the one definition of the commands: completion scripts, man
//! pages, and the page `docs/partnerctl.md`.

use std::{fs, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::Outcome;

const INTRODUCTION: &str = "\
# partnerctl

The help of every command, as `partnerctl COMMAND --help` prints it. The flags
of the connection belong to every command and are shown once, at the top. Each
partner command has a long form too: `partnerctl get` is `partnerctl partner
get`.
";

/// Print the completion script of a shell.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  partnerctl completion bash > /etc/bash_completion.d/partnerctl")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn run(self, mut command: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "partnerctl", &mut script);
        Ok(std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?)
    }
}

/// Write a man page for every command.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The folder to write to; it is made when missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ManArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn run(self, command: Command) -> Outcome {
        fs::create_dir_all(&self.folder)?;
        Ok(clap_mangen::generate_to(command, self.folder)?)
    }
}

/// The reference of all commands as one Markdown page.
pub fn markdown(command: &Command) -> String {
    let mut command = command.clone().term_width(80);
    command.build();
    let mut page = INTRODUCTION.to_owned();
    section(&mut page, &mut command, "partnerctl");
    page
}

/// The section of a command, and those of the commands below it. The long forms of the partner
/// commands would only repeat the short ones.
fn section(page: &mut String, command: &mut Command, path: &str) {
    let is_root = path == command.get_name();
    let mut shown = command.clone().mut_args(|argument| {
        let repeated = argument.is_global_set() && !is_root;
        if repeated { argument.hide(true) } else { argument }
    });
    let help = shown.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    *page += &format!("\n## {path}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for below in command.get_subcommands_mut() {
        let name = below.get_name().to_owned();
        if name != "help" && name != "partner" && !below.is_hide_set() {
            section(page, below, &format!("{path} {name}"));
        }
    }
}
