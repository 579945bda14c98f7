//! What the driver's errors say, once.

use std::error::Error;

/// An error of the driver, without the layer that says again what its source says.
pub(super) fn words(error: sqlx::Error) -> Box<dyn Error + Send + Sync> {
    match error {
        sqlx::Error::Database(answer) => answer.into_error(),
        sqlx::Error::Io(source) => source.into(),
        sqlx::Error::Tls(source) | sqlx::Error::Configuration(source) => source,
        other => Box::new(Whole(other)),
    }
}

/// An error whose own words hold those of its source.
#[derive(Debug)]
struct Whole(sqlx::Error);

impl std::fmt::Display for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Whole {}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(error: &dyn Error) -> Vec<String> {
        let mut words = vec![error.to_string()];
        let mut next = error.source();
        while let Some(source) = next {
            words.push(source.to_string());
            next = source.source();
        }
        words
    }

    #[test]
    fn no_cause_is_said_twice() {
        let io = || std::io::Error::other("no route");
        for error in [sqlx::Error::Io(io()), sqlx::Error::Tls(io().into())] {
            assert_eq!(chain(&*words(error)).last().unwrap(), "no route");
        }
        let decode = chain(&*words(sqlx::Error::Decode("not a uuid".into())));
        assert!(
            decode.len() == 1 && decode[0].contains("not a uuid"),
            "{decode:?}"
        );
    }
}
