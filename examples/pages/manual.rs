//! The man page qosd(8): every command with its options, as they are defined, and what is the same for all of them.

use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// What no definition of an option says: exit status, signals, environment, files.
const SECTIONS: &str = include_str!("sections.roff");

/// The page, as troff reads it.
pub(crate) fn page(mut command: Command) -> io::Result<String> {
    command.build();
    let commands = leaves(&command);
    let man = Man::new(command);
    let mut page = title("qosd", 8, "System Administration");
    page += &rendered(|out| man.render_name_section(out))?;
    page += &synopsis(&commands);
    page += &rendered(|out| man.render_options_section(out))?;
    page += ".SH COMMANDS\n";
    for command in commands {
        page += &command.section()?;
    }
    Ok(page + SECTIONS)
}

/// How a page begins. Without a date: the same sources give the same page.
pub(crate) fn title(name: &str, section: u8, book: &str) -> String {
    format!(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {name} {section} \"\" \"qosd {}\" \"{book}\"\n", env!("CARGO_PKG_VERSION"))
}

/// What is rendered, but for the definition of the apostrophe: once a page is enough.
fn rendered(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let mut out = Vec::new();
    render(&mut out)?;
    let text = String::from_utf8(out).map_err(io::Error::other)?;
    Ok(text.split_inclusive('\n').filter(|line| !line.contains(".ds Aq ")).collect())
}

/// A command that does something.
struct Leaf {
    /// Such as `qosd ping [OPTIONS] <HOST>...`.
    usage: String,
    /// Without the options that all have.
    command: Command,
}

fn leaves(command: &Command) -> Vec<Leaf> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    below.flat_map(|below| if below.has_subcommands() { leaves(below) } else { vec![Leaf::of(below.clone())] }).collect()
}

impl Leaf {
    fn of(mut command: Command) -> Self {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
        let command = command.mut_args(|option| {
            let of_all = option.is_global_set() || option.get_id() == "help";
            with_values(option).hide(of_all)
        });
        Self { usage, command }
    }

    fn section(&self) -> io::Result<String> {
        let mut roff = Roff::new();
        roff.control("SS", [self.usage.as_str()]);
        roff.text([roman(self.command.get_about().map(ToString::to_string).unwrap_or_default())]);
        let mut section = roff.to_roff();
        if self.command.get_arguments().any(|option| !option.is_hide_set()) {
            let man = Man::new(self.command.clone());
            let options = rendered(|out| man.render_options_section(out))?;
            // Here they are part of a section, and none of their own.
            section += options.trim_start_matches(".SH OPTIONS\n");
        }
        Ok(section)
    }
}

/// Says in its help which values it takes, in one line instead of a list.
fn with_values(option: Arg) -> Arg {
    let values = option.get_possible_values();
    let described = values.iter().filter(|value| !value.is_hide_set()).filter_map(|value| {
        let help = value.get_help()?.to_string();
        Some(format!("{} ({help})", value.get_name()))
    });
    let described: Vec<_> = described.collect();
    match option.get_help().map(ToString::to_string) {
        Some(help) if !described.is_empty() => option.help(format!("{help}: {}", described.join(", "))).hide_possible_values(true),
        _ => option,
    }
}

fn synopsis(leaves: &[Leaf]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for (n, Leaf { usage, command }) in leaves.iter().enumerate() {
        if n > 0 {
            roff.control("br", []);
        }
        let (name, rest) = usage.split_at(command.get_bin_name().map_or(0, str::len));
        roff.text([bold(name), roman(rest)]);
    }
    roff.to_roff()
}
