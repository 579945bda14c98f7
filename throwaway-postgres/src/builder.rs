use uuid::Uuid;

use crate::launcher::Launcher;
use crate::{Cluster, Error};

/// Enough for several test processes with a connection pool each.
const MAX_CONNECTIONS: &str = "300";

/// The settings of a [`Cluster`] to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Vec<(String, String)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
        }
        .setting("max_connections", MAX_CONNECTIONS)
    }
}

impl Builder {
    /// Whether commits wait for the disk. They do by default, as figures need it; a test of logic
    /// runs faster without. It makes no difference to a crash of the server, only to one of the
    /// machine.
    #[must_use]
    pub fn fsync(self, fsync: bool) -> Self {
        let value = if fsync { "on" } else { "off" };
        self.setting("fsync", value)
            .setting("full_page_writes", value)
    }

    /// Any setting of `postgresql.conf`; the last one of a name counts.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Creates the data directory, starts the server, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// [`Error::NotInstalled`] or [`Error::TooOld`] without a usable PostgreSQL on this machine,
    /// [`Error::Ended`] with the server's log if a setting is wrong.
    pub fn start(self) -> Result<Cluster, Error> {
        let password = Uuid::new_v4().simple().to_string();
        let launcher = Launcher::prepare(self.settings)?;
        launcher.initdb(&password)?;
        Cluster::with(launcher, &password)
    }
}
