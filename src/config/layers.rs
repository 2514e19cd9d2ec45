//! The layers of a config: files and environment, merged by the `config` crate, and where in them a key stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{ConfigError, Map, Source, Value};

use super::Env;
use super::problem::{Place, Problem, Problems};
use crate::settings::{ENVIRONMENT, explain, file};
use document::Document;
use environment::Variables;

mod document;
mod environment;

/// The largest config file.
const LIMIT: u64 = 1024 * 1024;
/// The most files in `conf.d`.
const MOST_FILES: usize = 1000;

/// A config before it has types.
pub(super) struct Layers {
    /// The main file, then those of `conf.d`.
    files: Vec<FileLayer>,
    variables: Variables,
}

struct FileLayer {
    path: PathBuf,
    document: Document,
    open_to_others: bool,
}

/// Where a value that holds a secret came from.
pub(super) enum Origin<'a> {
    /// A variable.
    Environment,
    /// A file that users other than owner and group can read.
    OpenFile(&'a Path),
    /// A file that is closed to others.
    ClosedFile,
}

/// Reads and parses every layer, or finds what is wrong with each.
pub(super) fn read(main: &Path, env: &Env) -> Result<Layers, Problems> {
    let problem = |place, message, layer| Problem { place, key: String::new(), message, layer };
    let mut problems = Vec::new();
    let mut paths = vec![main.to_owned()];
    let folder = folder(main).join("conf.d");
    match more_files(&folder) {
        Ok(more) => paths.extend(more),
        Err(message) => problems.push(problem(Place::File { path: folder, position: None }, message, 1)),
    }
    let mut files = Vec::new();
    for (layer, path) in paths.iter().enumerate() {
        match read_file(path, layer) {
            Ok(file) => files.push(file),
            Err(mistakes) => {
                let place = |position| Place::File { path: path.clone(), position };
                problems.extend(mistakes.into_iter().map(|(position, message)| problem(place(position), message, layer)));
            }
        }
    }
    let (variables, mistakes) = Variables::new(env);
    problems.extend(mistakes.into_iter().map(|(name, message)| problem(Place::Environment(name), message, paths.len())));
    if problems.is_empty() { Ok(Layers { files, variables }) } else { Err(Problems::new(problems)) }
}

/// The folder in which a file is.
pub(super) fn folder(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// The files of `conf.d` in the order of their names. Hidden ones are an editor's own.
fn more_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot be read: {error}"))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
        if paths.len() > MOST_FILES {
            return Err(format!("has more than {MOST_FILES} files"));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The `config` crate carries the number of the layer along with each value.
fn read_file(path: &Path, layer: usize) -> Result<FileLayer, Vec<document::Mistake>> {
    let contents = file::read(path, LIMIT).map_err(|error| vec![(None, explain(&error))])?;
    let document = Document::parse(contents.bytes, &layer.to_string())?;
    Ok(FileLayer { path: path.to_owned(), document, open_to_others: contents.open_to_others })
}

impl Layers {
    /// The main file.
    pub(super) fn main(&self) -> &Path {
        &self.files[0].path
    }

    /// Everything merged: later layers over earlier ones.
    pub(super) fn merged(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut builder = config::Config::builder();
        for file in &self.files {
            builder = builder.add_source(Values(file.document.values.clone()));
        }
        builder.add_source(self.variables.source()).build()?.collect()
    }

    /// A problem at the place that sets the key: the last layer that has it, else that has the most of its path.
    pub(super) fn problem(&self, key: &str, message: String) -> Problem {
        let steps = document::steps(key);
        let depths = self.files.iter().map(|file| file.document.depth(&steps));
        // Of equals the last is the maximum.
        let (layer, depth) = depths.enumerate().max_by_key(|(_, depth)| *depth).unwrap_or_default();
        let (layer, place) = if let Some(variable) = self.variables.find(&steps, depth) {
            (self.files.len(), Place::Environment(variable.to_owned()))
        } else {
            let FileLayer { path, document, .. } = &self.files[layer];
            (layer, Place::File { path: path.clone(), position: document.position(&steps) })
        };
        Problem { place, key: key.to_owned(), message, layer }
    }

    /// Where a merged value came from.
    pub(super) fn origin(&self, value: &Value) -> Option<Origin<'_>> {
        if value.origin() == Some(ENVIRONMENT) {
            return Some(Origin::Environment);
        }
        let file = self.files.get(value.origin()?.parse::<usize>().ok()?)?;
        Some(if file.open_to_others { Origin::OpenFile(&file.path) } else { Origin::ClosedFile })
    }
}

/// A layer for the `config` crate.
#[derive(Clone, Debug)]
struct Values(Map<String, Value>);

impl Source for Values {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Keys and the names of the variables that set them.
type Names = BTreeMap<Vec<String>, String>;
