//! The command line of the check.

use std::sync::Arc;

use super::ReplayScope;
use crate::id::{BuildId, InvalidBuildId};

/// What the command is told, and what `--help` says of it.
pub(super) const USAGE: &str = "\
Replays every open run against this code, and writes nothing.

usage: [URL] [OPTIONS]

  URL               the journal: postgres://…, sqlite:path; the variable DATABASE_URL if none is given
  --queue NAME      only this queue of those that the program's workers serve
  --workflow NAME   only runs of this workflow
  --build ID        only runs of this build
  --move            move what replays and is of another build to this one's; the rest stays
  --journals N      how many journals are read ahead, 1 to 64; 8 if not set
  --deny-unregistered
                    open runs of workflows that no worker of the program knows are differences too
  --json            the report as JSON
  --quiet           no progress on the standard error
  --help            this text

exit code: 0 every run that this code would drive replays, 1 some do not, 2 it could not be found out
with --move: 0 nothing stays with other builds, 1 something does: what does not replay, and what is held
";

/// What the command is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arguments {
    Help,
    Check(Check),
}

/// A check that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) url: Option<String>,
    pub(super) queue: Option<Arc<str>>,
    pub(super) scope: ReplayScope,
    pub(super) moves: bool,
    pub(super) deny_unregistered: bool,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// A command line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("there is no option {0}; see --help")]
    Unknown(String),
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("--build: {0}")]
    Build(#[from] InvalidBuildId),
    #[error("--journals must be a number from 1 to {}", ReplayScope::MOST_JOURNALS)]
    Journals,
    #[error("one journal at a time: {0:?} is one too many")]
    SecondUrl(String),
}

impl Arguments {
    /// Reads the arguments after the name of the program, or of its command.
    pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Mistake> {
        let mut check = Check::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            // `--queue NAME` and `--queue=NAME`.
            let (option, attached) = match argument.split_once('=') {
                Some((option, value)) if option.starts_with("--") => {
                    (option, Some(value.to_owned()))
                }
                _ => (&*argument, None),
            };
            let mut value = |name| {
                let value = attached.clone().or_else(|| arguments.next());
                value.ok_or(Mistake::NoValue(name))
            };
            match option {
                "--queue" => check.queue = Some(value("--queue")?.into()),
                "--workflow" => check.scope.workflow = Some(value("--workflow")?.into()),
                "--build" => check.scope.build = Some(BuildId::new(value("--build")?)?),
                "--move" if attached.is_none() => check.moves = true,
                "--journals" => check.scope.journals_at_once = journals(&value("--journals")?)?,
                "--deny-unregistered" if attached.is_none() => check.deny_unregistered = true,
                "--json" if attached.is_none() => check.json = true,
                "--quiet" if attached.is_none() => check.quiet = true,
                "--help" | "-h" => return Ok(Self::Help),
                _ if option.starts_with('-') => return Err(Mistake::Unknown(option.to_owned())),
                _ if check.url.is_some() => return Err(Mistake::SecondUrl(argument)),
                _ => check.url = Some(argument),
            }
        }
        Ok(Self::Check(check))
    }
}

fn journals(value: &str) -> Result<usize, Mistake> {
    let count = value.parse().map_err(|_| Mistake::Journals)?;
    let is_count = (1..=ReplayScope::MOST_JOURNALS).contains(&count);
    is_count.then_some(count).ok_or(Mistake::Journals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Mistake> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_come_in_any_order_and_in_both_forms() {
        let expected = Check {
            url: Some("sqlite:a?mode=b".into()),
            queue: Some("slow".into()),
            scope: ReplayScope {
                workflow: Some("order".into()),
                build: Some(BuildId::new("b 1".replace(' ', "-")).expect("it is one")),
                journals_at_once: 64,
            },
            moves: true,
            deny_unregistered: true,
            json: true,
            quiet: true,
        };
        let line = "--json --queue=slow sqlite:a?mode=b --workflow order --build b-1 --move --journals 64 --quiet --deny-unregistered";
        assert_eq!(parse(line), Ok(Arguments::Check(expected)));
        assert_eq!(parse(""), Ok(Arguments::Check(Check::default())));
        assert_eq!(parse("sqlite:a --help --nonsense"), Ok(Arguments::Help));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        assert_eq!(parse("--jsn"), Err(Mistake::Unknown("--jsn".into())));
        assert_eq!(parse("--json=yes"), Err(Mistake::Unknown("--json".into())));
        assert_eq!(parse("--queue"), Err(Mistake::NoValue("--queue")));
        assert_eq!(parse("--build="), Err(Mistake::Build(InvalidBuildId)));
        assert_eq!(parse("--journals 0"), Err(Mistake::Journals));
        assert_eq!(parse("--journals 65"), Err(Mistake::Journals));
        assert_eq!(parse("a: b:"), Err(Mistake::SecondUrl("b:".into())));
    }
}
