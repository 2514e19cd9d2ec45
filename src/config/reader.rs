//! From merged layers to a [`Config`]: each section to its owner, and all their problems together.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Map, Value, ValueKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layers::{Layers, Origin, folder};
use super::problem::{Problem, Problems};
use super::sections::{Agent, AgentTable, JournalTable, Log, table_name};
use super::{Config, Env, systemd_folder};
use crate::influxdb;
use crate::measurement::Series;
use crate::mesh;
use crate::mesh::collector::settings::Listen;
use crate::page;
use crate::probe::{AnyKind, Assignment, Reading, iperf3};
use crate::responder;
use crate::secret::Folders;
use crate::settings::network::Endpoint;
use crate::settings::{self, KeyProblem};

/// Reads all sections, or finds all problems of all.
pub(super) fn read(layers: &Layers, kinds: &[&dyn AnyKind], env: &Env) -> Result<Config, Problems> {
    let mut reader = Reader::new(layers, env)?;
    let agent = reader.agent();
    let log = reader.log();
    let web = reader.web();
    let journal = reader.journal();
    let influxdb = reader.influxdb();
    let responder = reader.responder();
    let source = agent.as_ref().map(|agent| agent.name.clone()).unwrap_or_default();
    let iperf3_server = reader.iperf3_server();
    let mesh = reader.mesh(&source);
    let collector = reader.collector();
    reader.one_listener_a_port(&places(web.as_ref(), responder.as_ref(), iperf3_server.as_ref(), collector.as_ref()));
    if mesh.is_some() {
        reader.names_of_the_mesh(&influxdb);
    }
    let (probes, assignments) = reader.probes(kinds, &source);
    reader.unknown(kinds);
    let Reader { effective, problems, .. } = reader;
    match (agent, log, journal) {
        (Some(agent), Some(log), Some(journal)) if problems.is_empty() => {
            let runtime_dir = runtime_dir(&agent, env);
            let journal = journal.settings();
            Ok(Config {
                agent,
                log,
                journal,
                influxdb,
                iperf3_server,
                web,
                responder,
                mesh,
                collector,
                assignments,
                probes,
                runtime_dir,
                effective,
            })
        }
        _ => Err(Problems::new(problems)),
    }
}

/// Reads `[agent]` alone, and finds the folder of the state socket.
pub(super) fn agent(layers: &Layers, env: &Env) -> Result<(Agent, PathBuf), Problems> {
    let mut reader = Reader::new(layers, env)?;
    let agent = reader.agent().ok_or(Problems::new(reader.problems))?;
    let folder = runtime_dir(&agent, env);
    Ok((agent, folder))
}

fn runtime_dir(agent: &Agent, env: &Env) -> PathBuf {
    systemd_folder(env, "RUNTIME_DIRECTORY").unwrap_or_else(|| agent.data_dir.clone())
}

struct Reader<'a> {
    layers: &'a Layers,
    env: &'a Env,
    /// Those not read yet.
    sections: Map<String, Value>,
    effective: toml::Table,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(layers: &'a Layers, env: &'a Env) -> Result<Self, Problems> {
        let sections = layers.merged().map_err(|error| Problems::new(vec![layers.problem("", settings::explain(&error))]))?;
        Ok(Self { layers, env, sections, effective: toml::Table::new(), problems: Vec::new() })
    }

    fn agent(&mut self) -> Option<Agent> {
        let table: AgentTable = self.section("agent")?;
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        match table.finish(host, systemd_folder(self.env, "STATE_DIRECTORY")) {
            Ok(agent) => self.done("agent", &agent).then_some(agent),
            Err(problems) => {
                self.report("agent", problems);
                None
            }
        }
    }

    fn log(&mut self) -> Option<Log> {
        let log: Log = self.section("log")?;
        self.report("log", log.problems());
        self.done("log", &log).then_some(log)
    }

    fn journal(&mut self) -> Option<JournalTable> {
        let journal: JournalTable = self.section("journal")?;
        self.report("journal", journal.problems());
        self.done("journal", &journal).then_some(journal)
    }

    fn iperf3_server(&mut self) -> Option<iperf3::server::Settings> {
        let name = "iperf3_server";
        self.sections.contains_key(name).then_some(())?;
        let settings: iperf3::server::Settings = self.section(name)?;
        self.report(name, settings.problems());
        self.done(name, &settings).then_some(settings)
    }

    /// Pages on the state socket alone unless its section is there.
    fn web(&mut self) -> Option<page::Settings> {
        self.sections.contains_key("web").then_some(())?;
        let web: page::Settings = self.section("web")?;
        self.report("web", web.problems());
        self.done("web", &web).then_some(web)
    }

    /// Off unless its section is there.
    fn responder(&mut self) -> Option<responder::Settings> {
        if !self.sections.contains_key("responder") {
            return None;
        }
        let responder: responder::Settings = self.section("responder")?;
        self.report("responder", responder.problems());
        self.done("responder", &responder).then_some(responder)
    }

    /// No agent unless its section is there.
    fn mesh(&mut self, agent: &str) -> Option<mesh::agent::Settings> {
        let (table, folders) = (self.sections.remove("mesh")?, self.folders());
        self.finish("mesh", mesh::agent::Settings::read(table, agent, &folders))
    }

    /// No collector unless its section is there.
    fn collector(&mut self) -> Option<mesh::collector::Settings> {
        let (table, folders) = (self.sections.remove("collector")?, self.folders());
        self.finish("collector", mesh::collector::Settings::read(table, &folders))
    }

    /// Of two that are to listen at the same place, one never could.
    fn one_listener_a_port(&mut self, places: &[(String, Endpoint)]) {
        for (index, (key, place)) in places.iter().enumerate() {
            let Some((other, at)) = places[..index].iter().find(|(_, other)| other.collides(*place)) else { continue };
            let message = format!("{} is taken by {other} = {}, choose another port", place.0, at.0);
            self.report(key, vec![KeyProblem::new("", message)]);
        }
    }

    /// The agent of a mesh measures and posts under names of its own.
    fn names_of_the_mesh(&mut self, influxdb: &BTreeMap<String, influxdb::Settings>) {
        let (kind, probe, output) = (mesh::agent::plan::KIND, mesh::agent::plan::PROBE, mesh::agent::output::NAME);
        let is_probe = match self.sections.get(kind).map(|section| &section.kind) {
            Some(ValueKind::Table(probes)) => probes.contains_key(probe),
            _ => false,
        };
        let taken = [(is_probe, format!("{kind}.{probe}")), (influxdb.contains_key(output), format!("influxdb.{output}"))];
        for (_, key) in taken.into_iter().filter(|(taken, _)| *taken) {
            let message = "this name belongs to the agent of [mesh], choose another".to_owned();
            self.report(&key, vec![KeyProblem::new("", message)]);
        }
    }

    /// Keeps what a section that reads its own files gives back.
    fn finish<T>(&mut self, name: &str, read: Result<(T, toml::Table), Vec<KeyProblem>>) -> Option<T> {
        let read = read.map_err(|problems| self.report(name, problems));
        read.ok().filter(|(_, effective)| self.done(name, effective)).map(|(settings, _)| settings)
    }

    fn folders(&self) -> Folders {
        Folders { credentials: systemd_folder(self.env, "CREDENTIALS_DIRECTORY"), config: folder(self.layers.main()) }
    }

    fn influxdb(&mut self) -> BTreeMap<String, influxdb::Settings> {
        let folders = self.folders();
        let mut outputs = BTreeMap::new();
        for (name, table) in self.tables("influxdb", "an output") {
            let key = format!("influxdb.{name}");
            self.inline_secrets(&key, &table);
            match influxdb::Settings::read(table, &folders) {
                Ok((settings, effective)) => {
                    self.show("influxdb", &name, effective);
                    outputs.insert(name, settings);
                }
                Err(problems) => self.report(&key, problems),
            }
        }
        outputs
    }

    /// A secret in the config itself is safe only in a file that is closed to others.
    fn inline_secrets(&mut self, key: &str, table: &Value) {
        let ValueKind::Table(entries) = &table.kind else { return };
        for name in influxdb::settings::INLINE_SECRETS {
            let Some(origin) = entries.get(*name).and_then(|value| self.layers.origin(value)) else { continue };
            let message = match origin {
                Origin::ClosedFile => continue,
                Origin::Environment => {
                    format!("a secret in the environment is seen by others; put it in a file that only qosd can read, and set {name}_file")
                }
                Origin::OpenFile(path) => {
                    let path = path.display();
                    format!(
                        "a secret in a file that others can read; run: chmod o-rwx {path}, or put it in a file of its own and set {name}_file"
                    )
                }
            };
            self.report(key, vec![KeyProblem::new(*name, message)]);
        }
    }

    fn probes(&mut self, kinds: &[&dyn AnyKind], agent: &str) -> (usize, Vec<Arc<Assignment>>) {
        let mut probes = 0;
        let mut assignments = Vec::new();
        let mut known = HashMap::new();
        let folders = self.folders();
        for kind in kinds {
            for (name, mut table) in self.tables(kind.name(), "a probe") {
                probes += 1;
                find_files(&mut table, kind.secret_files(), &folders);
                let key = format!("{}.{name}", kind.name());
                match kind.read(agent, &name, table) {
                    Ok(Reading { effective, assignments: more }) => {
                        self.show(kind.name(), &name, effective);
                        self.same_series(&key, &more, &mut known);
                        assignments.extend(more);
                    }
                    Err(problems) => self.report(&key, problems),
                }
            }
        }
        (probes, assignments)
    }

    /// Rows of two assignments with the same series would overwrite each other.
    fn same_series(&mut self, key: &str, assignments: &[Arc<Assignment>], known: &mut HashMap<Series, String>) {
        for assignment in assignments {
            let Some(other) = known.insert(assignment.series.clone(), key.to_owned()) else { continue };
            let tags = assignment.series.tags().map(|(tag, value)| format!("{tag}={value}")).collect::<Vec<_>>().join(", ");
            let who = if other == key { "two targets make".to_owned() } else { format!("makes, as {other} does,") };
            let message = format!("{who} the series {tags}; give one of them a name or a tag of its own");
            self.report(key, vec![KeyProblem::new("", message)]);
        }
    }

    fn unknown(&mut self, kinds: &[&dyn AnyKind]) {
        let known = ["agent", "log", "web", "journal", "influxdb", "iperf3_server", "responder", "mesh", "collector"]
            .into_iter()
            .chain(kinds.iter().map(|kind| kind.name()));
        let message = format!("unknown key, allowed are {}", known.collect::<Vec<_>>().join(", "));
        let unknown: Vec<String> = self.sections.drain().map(|(name, _)| name).collect();
        for name in unknown {
            self.report("", vec![KeyProblem::new(name, message.clone())]);
        }
    }

    /// Takes a section and reads it; one that is not there is empty.
    fn section<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let table = self.sections.remove(name).unwrap_or_else(|| Map::<String, Value>::new().into());
        settings::typed(table).map_err(|problems| self.report(name, problems)).ok()
    }

    /// Takes a section of named tables, in the order of their names; those with names that are not allowed are left out.
    fn tables(&mut self, section: &str, what: &str) -> BTreeMap<String, Value> {
        let tables = match self.sections.remove(section).map(|value| value.kind) {
            None => return BTreeMap::new(),
            Some(ValueKind::Table(tables)) => tables,
            Some(_) => {
                self.report(section, vec![KeyProblem::new("", format!("expected tables: {what} is [{section}.NAME]"))]);
                return BTreeMap::new();
            }
        };
        let mut named = BTreeMap::new();
        for (name, value) in tables {
            let problem = match (&value.kind, table_name(&name)) {
                (ValueKind::Table(_), Ok(())) => {
                    named.insert(name, value);
                    continue;
                }
                (ValueKind::Table(_), Err(message)) => message,
                _ => format!("expected a table: {what} is [{section}.NAME], and keys stand in it"),
            };
            self.report(section, vec![KeyProblem::new(settings::plain_key(&name), problem)]);
        }
        named
    }

    fn report(&mut self, table: &str, problems: Vec<KeyProblem>) {
        self.problems.extend(problems.into_iter().map(|problem| {
            let KeyProblem { key, message } = problem.within(table);
            self.layers.problem(&key, message)
        }));
    }

    /// Keeps a section for `qosd check --show`.
    fn done(&mut self, name: &str, section: &impl Serialize) -> bool {
        match toml::Value::try_from(section) {
            Ok(value) => {
                self.effective.insert(name.to_owned(), value);
                true
            }
            Err(error) => {
                self.report(name, vec![KeyProblem::new("", error.to_string())]);
                false
            }
        }
    }

    fn show(&mut self, section: &str, name: &str, table: toml::Table) {
        let tables = self.effective.entry(section.to_owned()).or_insert_with(|| toml::Table::new().into());
        if let Some(tables) = tables.as_table_mut() {
            tables.insert(name.to_owned(), table.into());
        }
    }
}

/// Where is to be listened with TCP, each with its key.
fn places(
    web: Option<&page::Settings>,
    responder: Option<&responder::Settings>,
    iperf3_server: Option<&iperf3::server::Settings>,
    collector: Option<&mesh::collector::Settings>,
) -> Vec<(String, Endpoint)> {
    let of = |key: &str, place| (key.to_owned(), Endpoint(place));
    let responder = responder.map(|responder| of("responder.listen", responder.listen));
    let server = iperf3_server.map(|server| of("iperf3_server.port", server.place()));
    let collector = collector.and_then(|collector| match collector.listen {
        Listen::Tcp(place) => Some(of("collector.listen", place)),
        Listen::Unix(_) => None,
    });
    let web = web.map(|web| web.listen.as_slice()).unwrap_or_default();
    let web = web.iter().enumerate().map(|(index, place)| (format!("web.listen[{index}]"), *place));
    responder.into_iter().chain(server).chain(collector).chain(web).collect()
}

/// Makes the names of files with secrets whole paths.
fn find_files(table: &mut Value, keys: &[&str], folders: &Folders) {
    let ValueKind::Table(entries) = &mut table.kind else { return };
    for key in keys {
        if let Some(ValueKind::String(name)) = entries.get_mut(*key).map(|value| &mut value.kind) {
            *name = folders.find(Path::new(name.as_str())).display().to_string();
        }
    }
}
