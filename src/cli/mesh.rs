//! `qosd mesh once`: one round of an agent, for cron. Works with no service running, and beside one.

use std::path::Path;

use actix_rt::System;
use clap::{Args, Subcommand};

use super::oneshot::{self, Output};
use super::{FAILED, OK, complain, ping};
use crate::clock::Clock;
use crate::config::{self, Config, Env};
use crate::journal::{Position, Stored};
use crate::measurement::Row;
use crate::mesh::agent::cache::{self, CacheError, Known};
use crate::mesh::agent::client::{Client, Fetched};
use crate::mesh::agent::output::{Losses, output};
use crate::mesh::agent::plan::{Basis, Plan, plan};
use crate::mesh::agent::{Settings, here};
use crate::mesh::list::Taken;
use crate::probe::ping::Ping;
use crate::probe::{KINDS, Member};
use crate::settings::explain;
use crate::writer::Verdict;

/// What `qosd mesh` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One round: fetch the list, ping all others, post what was found
    Once {
        /// How to show the rows
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// Runs it; the result is the exit status: 0 if all was posted.
pub(super) fn run(config: &Path, env: &Env, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = config::load(config, KINDS, env).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let Command::Once { output } = arguments.command;
    let Some(settings) = &config.mesh else {
        complain("the config has no [mesh]");
        return Ok(oneshot::USAGE);
    };
    Ok(System::new().block_on(once(&config, settings, output)))
}

async fn once(config: &Config, settings: &Settings, output: Output) -> u8 {
    match round(config, settings).await {
        Err(why) => {
            complain(&why);
            FAILED
        }
        Ok(rows) => {
            let posted = post(settings, &rows).await;
            let shown = oneshot::show(&rows, output, ping::COLUMNS).map_err(|error| error.to_string());
            match posted.and(shown) {
                Ok(()) => OK,
                Err(why) => {
                    complain(&why);
                    FAILED
                }
            }
        }
    }
}

/// Pings all others once.
async fn round(config: &Config, settings: &Settings) -> Result<Vec<Row>, String> {
    let (known, taken) = list(config, settings).await?;
    let basis = Basis {
        list: &known.list,
        asked: known.schedule.unwrap_or_default().ping,
        name: &settings.name,
        agent: &config.agent.name,
        max_rate: settings.max_rate,
        here: &here::here(),
    };
    let Plan { assignments, refused, listed, .. } = plan(basis, &Member::<Ping>::NEW).map_err(|error| error.to_string())?;
    for problem in taken.refused.iter().chain(&refused) {
        complain(&format!("not measured: {problem}"));
    }
    if !listed {
        complain(&format!("{} is not in the list, so nothing can be posted as that", settings.name));
    }
    ping::measure(&assignments, ping::Live::for_stderr()).await
}

/// The collector's list, else that on disk.
async fn list(config: &Config, settings: &Settings) -> Result<(Known, Taken), String> {
    let clock = Clock::system();
    let client = Client::new(settings, clock.clone()).map_err(|error| error.to_string())?;
    let (folder, collector) = (&config.agent.data_dir, settings.collector.as_str());
    match client.fetch().await {
        Ok(Fetched { mut taken, schedule }) => {
            let list = std::mem::take(&mut taken.list);
            let known = Known { collector: collector.to_owned(), fetched: clock.now().unix, list, schedule };
            if let Err(error) = cache::write(folder, "once", &known) {
                complain(&format!("the list cannot be kept in {}: {error}", folder.display()));
            }
            Ok((known, taken))
        }
        Err(why) => {
            let known = cache::read(folder, collector).map_err(|error: CacheError| format!("{}; {}", explain(&why), explain(&error)))?;
            complain(&format!("{}; the list on disk is used, of {}", explain(&why), known.fetched));
            Ok((known, Taken::default()))
        }
    }
}

/// Posts what was found, as the service's output does.
async fn post(settings: &Settings, rows: &[Row]) -> Result<(), String> {
    let losses = Losses::default();
    let spec = output(settings.clone(), losses.clone());
    let poster = spec.destination.connect(&Clock::system())?;
    let rows: Vec<_> = rows.iter().map(|row| Stored { position: Position(0), row: row.clone() }).collect();
    let Some(body) = poster.encode(&rows) else { return Ok(()) };
    match poster.send(body).await {
        Verdict::Accepted => match losses.told() {
            (0, _) => Ok(()),
            (lost, why) => Err(format!("the collector did not take {lost} of the results: {}", why.unwrap_or_default())),
        },
        Verdict::Hold { why } | Verdict::Refused { why, .. } | Verdict::Unknown { why } | Verdict::After { why, .. } => {
            Err(format!("not posted: {why}"))
        }
        Verdict::Conflict(conflict) => Err(format!("not posted: {}", conflict.field.why)),
        Verdict::TooLarge => Err("not posted: too large for the collector".to_owned()),
    }
}
