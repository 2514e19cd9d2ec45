//! `qosd requeue`: dead letters back into delivery. The running service does it, or, while none runs, this process in the
//! journal itself, whose lock it holds meanwhile.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use actix_rt::System;
use anyhow::Context;
use clap::Args;
use reqwest::{Method, Url};

use super::{OK, status};
use crate::config::{self, Env};
use crate::journal;
use crate::status::server::{REQUEUE_PATH, RequeueAnswer};

/// What `qosd requeue` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only those of this output
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// The service's socket, instead of the one that the config tells
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The folder with the journal, instead of the one that the config tells
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Requeues; the result is the exit status.
pub(super) fn run(config: &Path, env: &Env, arguments: &Arguments) -> anyhow::Result<u8> {
    let output = arguments.output.as_deref();
    let socket = match (&arguments.socket, &arguments.data_dir) {
        (Some(socket), _) => Some(socket.clone()),
        // The journal that is named may be another's than the service of this config.
        (None, Some(_)) => None,
        (None, None) => Some(status::find(config, env)?),
    };
    let letters = match socket.filter(|socket| arguments.socket.is_some() || UnixStream::connect(socket).is_ok()) {
        Some(socket) => System::new().block_on(ask(&socket, output))?,
        None => journal::requeue(&data_dir(config, env, arguments)?, output)?,
    };
    let of = output.map(|name| format!(" of {name}")).unwrap_or_default();
    match writeln!(std::io::stdout().lock(), "{letters} dead letters{of} requeued") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(OK),
    }
}

fn data_dir(config: &Path, env: &Env, arguments: &Arguments) -> anyhow::Result<PathBuf> {
    match &arguments.data_dir {
        Some(folder) => Ok(folder.clone()),
        None => Ok(config::whereabouts(config, env).map_err(|problems| anyhow::anyhow!("{problems}"))?.data_dir),
    }
}

async fn ask(socket: &Path, output: Option<&str>) -> anyhow::Result<u64> {
    let mut url = Url::parse("http://qosd")?.join(REQUEUE_PATH)?;
    if let Some(output) = output {
        url.query_pairs_mut().append_pair("output", output);
    }
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let answer = status::request(socket, Method::POST, &path).await;
    let answer = answer.with_context(|| format!("no qosd answers on {}", socket.display()))?;
    match answer.json().await.context("the service speaks another version of qosd")? {
        RequeueAnswer::Requeued(letters) => Ok(letters),
        RequeueAnswer::Error(why) => anyhow::bail!("{why}"),
    }
}
