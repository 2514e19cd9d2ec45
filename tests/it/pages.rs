//! Man pages and completions say what `--help` says, of every command, and what `config/qosd.toml` says, of every key.

#[path = "../../examples/pages/completions.rs"]
mod completions;
#[path = "../../examples/pages/manual.rs"]
mod manual;
#[path = "../../examples/pages/reference.rs"]
mod reference;

use std::collections::BTreeSet;
use std::process::Command;

use crate::daemon::{qosd, run};

const SHIPPED: &str = include_str!("../../config/qosd.toml");

/// A command as its `--help` shows it.
struct Helped {
    /// Such as `mesh once`.
    typed: String,
    usage: String,
    /// Such as `-c, --count <COUNT>`.
    options: BTreeSet<String>,
}

impl Helped {
    /// Every spelling, such as `-c` and `--count`.
    fn spellings(&self) -> impl Iterator<Item = &str> {
        self.options.iter().flat_map(|option| option.split(", ")).map(|one| one.split(' ').next().unwrap())
    }

    /// The word by which shells know it.
    fn word(&self) -> &str {
        self.typed.rsplit(' ').next().unwrap()
    }
}

fn help(typed: &[&str]) -> String {
    let output = run(qosd(typed).arg("--help"));
    assert!(output.status.success(), "{typed:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of a part of a help, without their indentation.
fn part<'a>(help: &'a str, title: &str) -> impl Iterator<Item = &'a str> {
    help.lines().skip_while(move |line| *line != title).skip(1).take_while(|line| line.is_empty() || line.starts_with(' ')).map(str::trim)
}

/// The commands that do something, as the program itself tells them.
fn commands(typed: &[&str]) -> Vec<Helped> {
    let help = help(typed);
    let below: Vec<_> =
        part(&help, "Commands:").filter_map(|line| line.split(' ').next()).filter(|name| !["", "help"].contains(name)).collect();
    if below.is_empty() {
        let usage = help.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap().to_owned();
        let options = part(&help, "Options:").filter(|line| line.starts_with('-') && !line.starts_with("- "));
        let options = options.map(|line| line.split("  ").next().unwrap().to_owned()).collect();
        return vec![Helped { typed: typed.join(" "), usage, options }];
    }
    below.into_iter().flat_map(|name| commands(&[typed, &[name]].concat())).collect()
}

fn every_command() -> Vec<Helped> {
    let commands = commands(&[]);
    let names: Vec<_> = commands.iter().map(|command| command.typed.as_str()).collect();
    assert!(names.len() >= 9 && names.contains(&"ping") && names.contains(&"mesh once"), "{names:?}");
    commands
}

/// A page as text, with its macros, without what troff needs to be told.
fn text(page: &str) -> String {
    let plain = ["\\fB", "\\fI", "\\fR", "\\fP"].iter().fold(page.to_owned(), |page, font| page.replace(font, ""));
    plain.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\&", "").replace("\\(aq", "'")
}

/// What stands in a part of a page, up to the next one.
fn below<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("{title}\n")).unwrap_or_else(|| panic!("no {title}"));
    let end = ["\n.SS ", "\n.SH "].iter().filter_map(|next| rest.find(next)).min().unwrap_or(rest.len());
    &rest[..end]
}

/// What is explained there: the lines that follow `.TP`. Values that are the default are not part of a name.
fn explained(part: &str) -> BTreeSet<String> {
    let lines: Vec<_> = part.lines().collect();
    let heads = lines.windows(2).filter(|pair| [".TP", ".TQ"].contains(&pair[0])).map(|pair| pair[1]);
    heads.map(|head| head.split(" [default:").next().unwrap().to_owned()).collect()
}

#[test]
fn the_man_page_has_every_command_with_every_option_and_no_other() {
    let page = text(&manual::page(qosd::cli::command()).unwrap());
    let of_all = explained(below(&page, ".SH OPTIONS"));
    assert!(of_all.contains("--config <FILE>"), "{of_all:?}");
    let commands = every_command();
    for command in &commands {
        let own = explained(below(&page, &format!(".SS \"{}\"", command.usage)));
        let own: BTreeSet<_> = own.into_iter().filter(|head| head.starts_with('-')).collect();
        let expected = command.options.difference(&of_all).cloned().collect::<BTreeSet<_>>();
        assert_eq!(own, expected, "qosd {}", command.typed);
        assert!(below(&page, ".SH SYNOPSIS").contains(&command.usage), "{}", command.usage);
    }
    assert_eq!(page.matches("\n.SS ").count(), commands.len());
}

#[test]
fn bash_completes_every_option_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in completions::scripts(&qosd::cli::command()) {
        std::fs::write(folder.path().join(name), script).unwrap();
    }
    let file = folder.path().join("qosd").display().to_string();
    for command in every_command() {
        // What bash does when the tabulator is hit behind a dash.
        let words = format!("qosd {} -", command.typed);
        let script =
            r#". "$1"; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _qosd qosd - "$3"; printf '%s\n' "${COMPREPLY[@]}""#;
        let before = words.split(' ').rev().nth(1).unwrap();
        let arguments = ["--norc", "-c", script, "bash", &file, &words, before];
        let output = run(Command::new("bash").args(arguments));
        let offered = String::from_utf8(output.stdout).unwrap();
        let offered: BTreeSet<_> = offered.lines().collect();
        assert_eq!(offered, command.spellings().collect(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn zsh_and_fish_are_told_every_option_of_every_command() {
    let scripts = completions::scripts(&qosd::cli::command());
    let script = |name| String::from_utf8(scripts.iter().find(|(file, _)| *file == name).unwrap().1.clone()).unwrap();
    let (zsh, fish) = (script("_qosd"), script("qosd.fish"));
    for command in every_command() {
        let case = format!("({})", command.word());
        let zsh: Vec<_> = zsh.lines().skip_while(|line| line.trim() != case).take_while(|line| !line.contains(";;")).collect();
        let condition = format!("subcommand{} {}\"", if command.typed.contains(' ') { "_from" } else { "" }, command.word());
        let fish: Vec<_> = fish.lines().filter(|line| line.contains(&condition)).map(|line| format!("{line} ")).collect();
        for option in command.spellings() {
            let ends = ["[", "=[", "+["].map(|end| format!("{option}{end}"));
            assert!(zsh.iter().any(|line| ends.iter().any(|end| line.contains(end))), "zsh: qosd {} {option}", command.typed);
            let (flag, name) = option.strip_prefix("--").map_or_else(|| ("-s", &option[1..]), |long| ("-l", long));
            assert!(fish.iter().any(|line| line.contains(&format!(" {flag} {name} "))), "fish: qosd {} {option}", command.typed);
        }
    }
}

#[test]
fn the_man_page_of_the_config_has_every_key_of_the_shipped_one() {
    let page = text(&reference::page(SHIPPED));
    let mut keys = 0;
    let mut section = "";
    for line in SHIPPED.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            section = name;
        }
        // What parses as a key is one; prose does not.
        if toml::from_str::<toml::Table>(line).is_ok_and(|table| !table.is_empty()) && !line.starts_with('[') {
            let title = section.split_once('.').map_or_else(|| section.to_owned(), |(kind, _)| format!("{kind}.NAME"));
            let there = explained(below(&page, &format!(".SH [{title}]")));
            assert!(there.contains(line), "[{title}] {line}: {there:#?}");
            keys += 1;
        }
    }
    assert!(keys > 50, "only {keys} keys were found");
    assert_eq!(keys, page.matches("\n.TP").count() + page.matches("\n.TQ").count());
}

#[test]
fn every_key_is_explained_and_told_its_default() {
    let page = text(&reference::page(SHIPPED));
    let lines: Vec<_> = page.lines().collect();
    for (n, line) in lines.iter().enumerate().filter(|(n, _)| *n > 0 && lines[n - 1] == ".TP") {
        let prose = lines[n + 1..].iter().take_while(|line| !line.starts_with(".TP") && !line.starts_with(".SH")).copied();
        let prose: Vec<_> = prose.collect();
        let told = prose.iter().any(|line| line.contains("efault"));
        // Under the same conditions as the key above them.
        let inline_secret = ["token = ", "password = "].iter().any(|key| line.starts_with(key));
        assert!(told || inline_secret, "{line}: {prose:?}");
    }
}

#[test]
fn the_debian_package_has_the_version_of_the_program() {
    let first = include_str!("../../packaging/debian/changelog").lines().next().unwrap();
    assert!(first.starts_with(concat!("qosd (", env!("CARGO_PKG_VERSION"), "-")), "{first}");
}
