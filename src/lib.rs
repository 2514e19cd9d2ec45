//! qosd tells a network operator the truth about the quality of the network.
//!
//! The story, in reading order. The [`cli`] hands over to [`app`], the one place that knows every part. A [`config`] says
//! what to measure. The [`supervisor`] starts one actor per kind of [`probe`]; each runs its probes slot by slot and makes
//! one row, a [`measurement`], a slot. The [`writer`] puts every row into the [`journal`] and, once it is durable, delivers
//! it to the outputs, of which [`influxdb`] is one. In a [`mesh`] hosts measure each other, and a collector keeps what they
//! find. A [`responder`] answers the HTTP probes of others. What the service knows of itself is its [`status`], and in rows
//! its [`vitals`]. What was measured in weeks is at hand in the [`history`], and people look at all of it on the [`page`].

pub mod app;
pub mod cli;

pub mod config;
pub mod settings;

pub mod supervisor;

pub mod measurement;
pub mod probe;

pub mod journal;
pub mod writer;

pub mod influxdb;

pub mod web;

pub mod mesh;

pub mod responder;

pub mod status;
pub mod vitals;

pub mod history;
pub mod page;

pub mod backoff;
pub mod clock;
pub mod listeners;
pub mod outgoing;
pub mod payload;
pub mod privileges;
pub mod resolve;
pub mod secret;
pub mod sys;
pub mod systemd;
pub mod telemetry;
pub mod tls;
