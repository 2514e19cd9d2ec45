//! Which path is which call. Pure: there is no file behind any of them.

use actix_web::http::{Method, Uri};

use crate::mesh::list::Name;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The list of probes.
    Probes,
    /// When they measure.
    Schedule,
    /// Results.
    Results,
    /// The last result of a probe.
    Last(Name),
}

impl Route {
    /// The call that an URI means, below this base path. Paths are compared as they came: nothing is decoded or cleaned up,
    /// as no path of ours needs it.
    pub fn of(uri: &Uri, base: &str) -> Option<Self> {
        // The absolute form is for proxies.
        if uri.scheme().is_some() || uri.authority().is_some() {
            return None;
        }
        match uri.path().strip_prefix(base)?.strip_prefix("/api/v1/")? {
            "conf/probes" => Some(Self::Probes),
            "conf/schedule" => Some(Self::Schedule),
            "data/probe-result" => Some(Self::Results),
            other => Name::new(other.strip_prefix("data/probe/")?.strip_suffix("/last")?).map(Self::Last),
        }
    }

    /// The method that it takes.
    pub fn method(&self) -> Method {
        match self {
            Self::Results => Method::POST,
            Self::Probes | Self::Schedule | Self::Last(_) => Method::GET,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, base: &str) -> Option<Route> {
        Route::of(&uri.parse().unwrap(), base)
    }

    #[test]
    fn the_paths_of_the_contract_are_known_with_and_without_a_base() {
        for base in ["", "/backend", "/a/b"] {
            assert_eq!(of(&format!("{base}/api/v1/conf/probes"), base), Some(Route::Probes));
            assert_eq!(of(&format!("{base}/api/v1/conf/probes?x=1"), base), Some(Route::Probes));
            assert_eq!(of(&format!("{base}/api/v1/conf/schedule"), base), Some(Route::Schedule));
            assert_eq!(of(&format!("{base}/api/v1/data/probe-result"), base), Some(Route::Results));
            let last = of(&format!("{base}/api/v1/data/probe/p1.ixp/last"), base);
            assert_eq!(last, Some(Route::Last(Name::new("p1.ixp").unwrap())));
        }
        assert_eq!(of("/api/v1/conf/probes", "/backend"), None);
        assert_eq!(of("/backend/api/v1/conf/probes", ""), None);
    }

    /// M12.
    #[test]
    fn whatever_else_a_path_may_be_it_is_unknown() {
        for path in [
            "/",
            "/api/v1/conf/probes/",
            "//api/v1/conf/probes",
            "/api//v1/conf/probes",
            "/api/v1/conf/../conf/probes",
            "/api/v1/conf/%2e%2e/conf/probes",
            "/api/v1/conf/%70robes",
            "/api/v1/conf/probes%00",
            "/API/v1/conf/probes",
            "/api/v2/conf/probes",
            "/api/v1/data/probe//last",
            "/api/v1/data/probe/../last",
            "/api/v1/data/probe/a/b/last",
            "/api/v1/data/probe/a%2fb/last",
            "/api/v1/data/probe/last",
            "/../../etc/passwd",
            "http://collector/api/v1/conf/probes",
            "*",
        ] {
            let known = of(path, "");
            assert!(known.is_none() || known == Some(Route::Last(Name::new("..").unwrap())), "{path}: {known:?}");
        }
        assert_eq!(of("/backend-of-another/api/v1/conf/probes", "/backend"), None);
    }
}
