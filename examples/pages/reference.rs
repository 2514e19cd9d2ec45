//! The man page qosd.toml(5), out of `config/qosd.toml`, which is the reference already: every key stands there with its
//! default, below one or two sentences about it.

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::manual::title;

const INTRODUCTION: &str = "The file from which qosd(8) reads what to measure and where to deliver the results, \
    in TOML. A key that is not known is refused. Of a section whose name ends in NAME there may be any number.";

/// A line of the shipped config.
enum Line<'a> {
    /// `[section]`, or the example of one that is commented out.
    Section(&'a str),
    /// `key = value`; whether it is in effect, or commented out.
    Key {
        line: &'a str,
        active: bool,
    },
    Prose(&'a str),
    Blank,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let bare = line.strip_prefix('#').map(str::trim_start);
        let (text, active) = bare.map_or((line, true), |text| (text, false));
        if text.is_empty() {
            return Self::Blank;
        }
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Self::Section(name);
        }
        let is_key = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        match text.split_once(" = ") {
            Some((key, _)) if is_key(key) => Self::Key { line: text, active },
            _ => Self::Prose(text),
        }
    }
}

/// The page, as troff reads it.
pub(crate) fn page(config: &str) -> String {
    let mut page = Page { roff: Roff::new(), prose: String::new(), keys: Vec::new(), active: false, begun: false };
    page.section("NAME").text([roman("qosd.toml - configuration of qosd")]);
    page.section("SYNOPSIS").text([italic("/etc/qosd/qosd.toml"), roman(", "), italic("/etc/qosd/conf.d/*.toml")]);
    page.section("DESCRIPTION").text([roman(INTRODUCTION)]);
    page.begun = true;
    // How the file itself is to be read comes first, and is of no use here.
    let (_, config) = config.split_once("\n#\n").unwrap_or(("", config));
    for line in config.lines().map(Line::of) {
        page.take(&line);
    }
    page.end_paragraph();
    page.section("SEE ALSO").text([bold("qosd"), roman("(8)")]);
    title("qosd.toml", 5, "File Formats") + &page.roff.to_roff()
}

/// The page as far as it is written, and the paragraph that is being read: prose, then the keys that it is about.
struct Page<'a> {
    roff: Roff,
    prose: String,
    keys: Vec<&'a str>,
    active: bool,
    /// Whether something stands in the section, so that a paragraph must be told from it.
    begun: bool,
}

impl<'a> Page<'a> {
    fn take(&mut self, line: &Line<'a>) {
        match *line {
            Line::Blank => self.end_paragraph(),
            Line::Section(name) => {
                // What stands above a section is about it.
                let prose = std::mem::take(&mut self.prose);
                self.end_paragraph();
                self.section(&heading(name));
                self.prose = prose;
                self.end_paragraph();
            }
            Line::Key { line, active } => {
                self.keys.push(line);
                self.active = active;
            }
            Line::Prose(text) => {
                if !self.keys.is_empty() {
                    self.end_paragraph();
                }
                let space = if self.prose.is_empty() { "" } else { " " };
                self.prose = format!("{}{space}{text}", self.prose);
            }
        }
    }

    fn section(&mut self, name: &str) -> &mut Roff {
        self.begun = false;
        self.roff.control("SH", [name])
    }

    fn end_paragraph(&mut self) {
        let (mut prose, keys) = (std::mem::take(&mut self.prose), std::mem::take(&mut self.keys));
        if !keys.is_empty() && self.active && !prose.contains("efault") {
            prose.push_str(" Default: as shown.");
        }
        for (n, line) in keys.iter().enumerate() {
            let (key, value) = line.split_once(" = ").unwrap_or((line, ""));
            self.roff.control(if n == 0 { "TP" } else { "TQ" }, []);
            self.roff.text([bold(key), roman(format!(" = {value}"))]);
        }
        if !prose.is_empty() {
            if keys.is_empty() && self.begun {
                self.roff.control("PP", []);
            }
            self.roff.text([roman(prose)]);
            self.begun = true;
        }
    }
}

/// The second part of a section's name is the operator's choice.
fn heading(section: &str) -> String {
    section.split_once('.').map_or_else(|| format!("[{section}]"), |(first, _)| format!("[{first}.NAME]"))
}
