//! Which page a path leads to. Pure.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::{Asked, Subject};

/// A page, or what stands beside the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`.
    Overview,
    /// `/probe/{kind}/{name}/{target}`.
    Target(Subject),
    /// `/mesh`.
    Mesh,
    /// `/status`.
    Status,
    /// `/chart/{kind}/{name}/{target}.svg`.
    Svg(Subject),
    /// `/chart/{kind}/{name}/{target}.csv`.
    Csv(Subject),
    /// `/style.css`.
    Style,
    /// `/page.js`.
    Script,
    /// `/favicon.ico`, for which browsers ask on their own.
    Icon,
    /// `/metrics`.
    Metrics,
    /// `/healthz`.
    Healthy,
    /// `/readyz`.
    Ready,
    /// `/api/v1/status`.
    ApiStatus,
    /// `/api/v1/series`.
    ApiSeries,
    /// `/api/v1/mesh`.
    ApiMesh,
    /// `/api/v1/range/{kind}/{name}/{target}`.
    ApiRange(Subject),
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// There is no such page.
    #[error("there is nothing here")]
    Unknown,
    /// It is not UTF-8.
    #[error("the path is not UTF-8")]
    NotText,
}

impl Route {
    /// The route of a path as it came, without its query. Each part between slashes is decoded on its own, so a target may hold
    /// a slash, and no part means a folder above.
    pub fn of(path: &str) -> Result<Self, NoRoute> {
        let decoded = |part| percent_decode_str(part).decode_utf8().map_err(|_| NoRoute::NotText);
        let parts: Vec<_> = path.strip_prefix('/').ok_or(NoRoute::Unknown)?.split('/').map(decoded).collect::<Result<_, _>>()?;
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        Ok(match parts.as_slice() {
            [""] => Self::Overview,
            ["mesh"] => Self::Mesh,
            ["status"] => Self::Status,
            ["style.css"] => Self::Style,
            ["page.js"] => Self::Script,
            ["favicon.ico"] => Self::Icon,
            ["metrics"] => Self::Metrics,
            ["healthz"] => Self::Healthy,
            ["readyz"] => Self::Ready,
            ["api", "v1", "status"] => Self::ApiStatus,
            ["api", "v1", "series"] => Self::ApiSeries,
            ["api", "v1", "mesh"] => Self::ApiMesh,
            ["api", "v1", "range", kind, probe, target] => Self::ApiRange(subject(kind, probe, target)?),
            ["probe", kind, probe, target] => Self::Target(subject(kind, probe, target)?),
            ["chart", kind, probe, file] => match (file.strip_suffix(".svg"), file.strip_suffix(".csv")) {
                (Some(target), _) => Self::Svg(subject(kind, probe, target)?),
                (None, Some(target)) => Self::Csv(subject(kind, probe, target)?),
                (None, None) => return Err(NoRoute::Unknown),
            },
            _ => return Err(NoRoute::Unknown),
        })
    }

    /// Whether its page is made of what is on the disk.
    pub fn needs_disk(&self) -> bool {
        matches!(self, Self::Target(_) | Self::Svg(_) | Self::Csv(_) | Self::ApiRange(_))
    }
}

fn subject(kind: &str, probe: &str, target: &str) -> Result<Subject, NoRoute> {
    if [kind, probe, target].iter().any(|part| part.is_empty()) {
        return Err(NoRoute::Unknown);
    }
    Ok(Subject { kind: kind.to_owned(), probe: probe.to_owned(), target: target.to_owned() })
}

/// What a query asks for. What is not UTF-8 in it is replaced; of a key that comes again, the first counts.
pub fn asked(query: &str) -> Asked {
    let mut asked = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        asked.entry(key.into_owned()).or_insert_with(|| value.into_owned());
    }
    Asked { query: asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(target: &str) -> Subject {
        Subject { kind: "ping".to_owned(), probe: "core".to_owned(), target: target.to_owned() }
    }

    #[test]
    fn each_path_leads_to_its_page() {
        let table = [
            ("/", Route::Overview),
            ("/%6desh", Route::Mesh),
            ("/probe/ping/core/2001:db8::1", Route::Target(ping("2001:db8::1"))),
            ("/probe/ping/core/edge%20%E2%80%93%20K%C3%B6ln%2F7", Route::Target(ping("edge – Köln/7"))),
            ("/probe/ping/core/..", Route::Target(ping(".."))),
            ("/probe/ping/core/%00", Route::Target(ping("\0"))),
            ("/probe/ping/core/%zz+", Route::Target(ping("%zz+"))),
            ("/chart/ping/core/a.svg.svg", Route::Svg(ping("a.svg"))),
            ("/chart/ping/core/%3Cscript%3E.csv", Route::Csv(ping("<script>"))),
            ("/api/v1/range/ping/core/a", Route::ApiRange(ping("a"))),
            ("/api/v1/status", Route::ApiStatus),
            ("/api/v1/mesh", Route::ApiMesh),
        ];
        for (path, route) in table {
            assert_eq!(Route::of(path), Ok(route), "{path}");
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in
            ["", "*", "//", "/mesh/", "/../etc/passwd", "/%2e%2e/status", "/probe/ping/core", "/probe/ping//a", "/chart/ping/core/.svg"]
        {
            assert_eq!(Route::of(path), Err(NoRoute::Unknown), "{path}");
        }
        assert_eq!(Route::of("/chart/ping/core/a.png"), Err(NoRoute::Unknown));
        assert_eq!(Route::of("/probe/ping/core/%ff"), Err(NoRoute::NotText));
    }

    #[test]
    fn a_query_is_decoded_and_the_first_of_a_key_counts() {
        let asked = asked("q=a%2Bb+c&q=x&from=&bad=%ff&%00=%0a&=&&sort");
        assert_eq!(
            (asked.get("q"), asked.get("from"), asked.get("bad"), asked.get("\0")),
            (Some("a+b c"), None, Some("\u{fffd}"), Some("\n"))
        );
    }
}
