//! Where the service's secrets are for who runs another command: systemd tells the service alone.

use std::path::Path;

use crate::config::{DEFAULT_PATH, Env};

/// While the service runs, and before.
const FOLDERS: [&str; 2] = ["/run/credentials/qosd.service", "/etc/credstore"];

/// The environment with what systemd adds to it for the service, if this is the config of its unit.
pub(super) fn as_the_unit(config: &Path, env: Env) -> Env {
    with_folder(config, env, Path::is_dir)
}

fn with_folder(config: &Path, mut env: Env, exists: impl Fn(&Path) -> bool) -> Env {
    if config == Path::new(DEFAULT_PATH)
        && !env.get("CREDENTIALS_DIRECTORY").is_some_and(|given| exists(Path::new(given)))
        && let Some(folder) = FOLDERS.iter().find(|folder| exists(Path::new(folder)))
    {
        env.insert("CREDENTIALS_DIRECTORY".to_owned(), (*folder).to_owned());
    }
    env
}

/// Whether a file is a credential of the unit.
pub(super) fn is_one(secret: &Path) -> bool {
    FOLDERS.iter().any(|folder| secret.starts_with(folder))
}

/// Where an operator puts such a secret, and what makes the service take it: a credential is read at its start alone.
pub(super) fn remedy(secret: &Path) -> String {
    match secret.file_name().filter(|_| is_one(secret)) {
        Some(name) => format!("{}, then: systemctl restart qosd", Path::new("/etc/credstore").join(name).display()),
        None => format!("{}, then: systemctl reload qosd", secret.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_the_unit_are_used_for_its_config_alone() {
        let folder = |config: &str, env: Env, there: &'static str| {
            with_folder(Path::new(config), env, move |folder| folder == Path::new(there)).remove("CREDENTIALS_DIRECTORY")
        };
        for there in FOLDERS {
            assert_eq!(folder(DEFAULT_PATH, Env::new(), there).as_deref(), Some(there));
            assert_eq!(folder("/tmp/qosd.toml", Env::new(), there), None);
        }
        assert_eq!(folder(DEFAULT_PATH, Env::new(), "/elsewhere"), None);
        let given = Env::from([("CREDENTIALS_DIRECTORY".to_owned(), "/given".to_owned())]);
        assert_eq!(folder(DEFAULT_PATH, given.clone(), "/given").as_deref(), Some("/given"));
        assert_eq!(folder(DEFAULT_PATH, given, FOLDERS[1]).as_deref(), Some(FOLDERS[1]), "one that is not there is of no use");
    }

    #[test]
    fn a_credential_is_put_where_it_comes_from() {
        for file in ["/run/credentials/qosd.service/influx_token", "/etc/credstore/influx_token"] {
            assert_eq!(remedy(Path::new(file)), "/etc/credstore/influx_token, then: systemctl restart qosd");
        }
        assert_eq!(remedy(Path::new("/etc/qosd/token")), "/etc/qosd/token, then: systemctl reload qosd");
    }
}
