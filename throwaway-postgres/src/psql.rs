use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{Error, programs};

/// How long psql may take to connect, in seconds.
const CONNECT_SECONDS: &str = "15";

/// Statements through the `psql` program, so that a test can look into a database without the
/// driver that it tests.
///
/// ```
/// # fn main() -> Result<(), throwaway_postgres::Error> {
/// let database = throwaway_postgres::Database::create()?;
/// let psql = throwaway_postgres::Psql::new(database.url())?;
/// assert_eq!(psql.query("select 1, 'x'")?, "1|x");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Psql {
    program: PathBuf,
    /// Without the password: other users of the machine can read a command line.
    url: Url,
    password: Option<OsString>,
}

impl Psql {
    /// Finds `psql`, for the database at `url`. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] if `url` is not a PostgreSQL URL, [`Error::NoPsql`] without the program.
    pub fn new(url: &str) -> Result<Self, Error> {
        let (url, password) = split_password(&parse(url)?);
        Ok(Self {
            program: programs::psql()?,
            url,
            password,
        })
    }

    /// Runs `sql` and returns its rows as unaligned text: columns between `|`, rows on lines.
    /// Several statements run as one transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Psql`] if the server cannot be reached or refuses the statement.
    pub fn query(&self, sql: &str) -> Result<String, Error> {
        let mut command = Command::new(&self.program);
        command.env("PGCONNECT_TIMEOUT", CONNECT_SECONDS);
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        let output = command
            .args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.url.as_str())
            .args(["-c", sql])
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("start psql"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end_matches('\n')
                .to_owned())
        } else {
            let message = String::from_utf8_lossy(&output.stderr)
                .trim()
                .replace('\n', " | ");
            Err(Error::Psql { message })
        }
    }
}

impl std::fmt::Debug for Psql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Psql")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// A URL of a PostgreSQL server.
pub(crate) fn parse(text: &str) -> Result<Url, Error> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => Ok(url),
        Ok(url) => Err(Error::Url {
            url: split_password(&url).0.into(),
        }),
        // Nothing of it is shown: what cannot be parsed cannot be searched for a password either.
        Err(_) => Err(Error::Url { url: "…".into() }),
    }
}

fn split_password(url: &Url) -> (Url, Option<OsString>) {
    let password = url.password().map(|password| {
        percent_decode_str(password)
            .decode_utf8_lossy()
            .into_owned()
            .into()
    });
    let mut bare = url.clone();
    // Refused only for URLs that cannot have a password in the first place.
    let _ = bare.set_password(None);
    (bare, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_leaves_the_url_and_is_decoded() {
        let (url, password) = split_password(
            &parse("postgres://me:p%40ss%2F1@db.example/x?sslmode=require").unwrap(),
        );
        assert_eq!(url.as_str(), "postgres://me@db.example/x?sslmode=require");
        assert_eq!(password.unwrap(), "p@ss/1");
    }

    #[test]
    fn another_kind_of_url_is_refused_without_its_password() {
        let check = |text, shown: &str| {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{shown}`")), "{message}");
        };
        check("sqlite://test.db", "sqlite://test.db");
        check("mysql://me:secret@host/db", "mysql://me@host/db");
        check("secret", "…");
    }
}
