//! The completions for bash, zsh and fish, each under the name by which its shell finds it.

use clap_complete::aot::{Shell, generate};

/// The name of each file and what is in it.
pub(crate) fn scripts(command: &clap::Command) -> Vec<(&'static str, Vec<u8>)> {
    let shells = [("qosd", Shell::Bash), ("_qosd", Shell::Zsh), ("qosd.fish", Shell::Fish)];
    let script = |shell| {
        let mut script = Vec::new();
        generate(shell, &mut command.clone(), "qosd", &mut script);
        script
    };
    shells.map(|(name, shell)| (name, script(shell))).into()
}
