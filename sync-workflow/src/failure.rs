//! Failures: errors as the journal records them.

use std::{any::Any, error::Error, fmt};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An error as the journal records it: of an activity, of a child, of a run.
///
/// Any [`std::error::Error`] turns into a failure with `?`. A failure is data: it is written once,
/// and every replay sees the same bytes. It is not itself a `std::error::Error`, so that `?` can
/// take every other error.
///
/// ```
/// use sync_workflow::Failure;
///
/// async fn parse(text: String) -> Result<i64, Failure> {
///     Ok(text.parse::<i64>()?)
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, as a class.
    pub kind: FailureKind,
    /// What went wrong, in words.
    pub message: String,
    /// The words of the error's sources, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Whether another attempt is pointless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// The application's own error value, if it has a type that can be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// Whether a transaction was rolled back in favour of another. Never stored.
    #[serde(skip)]
    pub(crate) is_contended: bool,
}

/// The class of a failure. The names are stored and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The application's own code returned an error.
    Application,
    /// An activity's time ran out: one attempt's, or that of all attempts together.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// The code panicked.
    Panicked,
    /// An activity that may run at most once was interrupted: whether it had its effect is unknown.
    Interrupted,
    /// A stored value does not fit the type that the code expects.
    Undecodable,
    /// It could not be started: its workflow id is taken.
    Rejected,
    /// There is no open run to signal.
    NotOpen,
    /// An operator ended it.
    Terminated,
}

impl Failure {
    /// A failure of the application, in words.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self::of_kind(FailureKind::Application, message)
    }

    /// A failure of the application for which another attempt is pointless.
    #[must_use]
    pub fn final_error(message: impl Into<String>) -> Self {
        Self {
            is_final: true,
            ..Self::new(message)
        }
    }

    /// The failure as one that no attempt may follow.
    #[must_use]
    pub fn into_final(self) -> Self {
        Self {
            is_final: true,
            ..self
        }
    }

    /// Records an error with its chain of sources; for error types that `?` cannot convert.
    ///
    /// A source whose words the error before it ends with, as many errors do, is not said again.
    #[must_use]
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        /// Longer chains are loops or noise.
        const MAX_SOURCES: usize = 16;
        let mut failure = Self::new(error.to_string());
        failure.is_contended = is_contended(error);
        let mut next = error.source();
        for _ in 0..MAX_SOURCES {
            let Some(source) = next else { break };
            failure.is_contended |= is_contended(source);
            failure.add_cause(source.to_string());
            next = source.source();
        }
        failure
    }

    fn add_cause(&mut self, words: String) {
        let before = self.causes.last().unwrap_or(&self.message);
        if !before.ends_with(&words) {
            self.causes.push(words);
        }
    }

    pub(crate) fn of_kind(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            is_final: false,
            value: None,
            is_contended: false,
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self::of_kind(FailureKind::Cancelled, "cancelled").into_final()
    }

    pub(crate) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        Self::of_kind(FailureKind::Panicked, panic_message(panic))
    }

    pub(crate) fn encode(&self) -> Bytes {
        // A struct of texts, a flag and a JSON value always has a JSON form.
        serde_json::to_vec(self)
            .map(Bytes::from)
            .unwrap_or_default()
    }

    pub(crate) fn decode(payload: &[u8]) -> Self {
        serde_json::from_slice(payload).unwrap_or_else(|error| {
            Self::of_kind(
                FailureKind::Undecodable,
                format!("a recorded failure cannot be read: {error}"),
            )
        })
    }
}

/// Whether a transaction was rolled back for a reason that lies outside of it, so that its code may run
/// again: another transaction was favoured, or the database or the way to it broke off.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn is_contended(error: &(dyn Error + 'static)) -> bool {
    if let Some(crate::journal::Error::Contended(_)) = error.downcast_ref() {
        return true;
    }
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(database)) => {
            is_passing(database.code().unwrap_or_default().as_ref())
        }
        // The connection is gone, and with it the transaction.
        Some(sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed) => true,
        _ => false,
    }
}

/// Whether an error of a database has to do with its state, and not with what it was asked.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn is_passing(code: &str) -> bool {
    /// Serialization failure, deadlock; a busy SQLite file, also within and between its readers; a
    /// session or server that was shut down, or that waited too long; a standby, or a primary that
    /// was demoted.
    const CODES: [&str; 10] = [
        "40001", "40P01", "5", "517", "261", "57P01", "57P02", "57P03", "25P03", "25006",
    ];
    /// Connections, resources such as disk and memory, the system below the database.
    const CLASSES: [&str; 3] = ["08", "53", "58"];
    let is_of_class = |class: &str| code.len() == 5 && code.starts_with(class);
    CODES.contains(&code) || CLASSES.into_iter().any(is_of_class)
}

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
fn is_contended(_error: &(dyn Error + 'static)) -> bool {
    false
}

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".into())
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::from_error(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

/// An error type of the application that is stored with its value, so that workflow code can match
/// on it.
///
/// The value is stored as JSON and read back as JSON. One that has no JSON form (a map whose keys are
/// no texts, a number beyond JSON's) is recorded with its words alone, and with a cause that says
/// why; one that is stored and does not fit the type any more keeps its words too. Workflow code
/// gets either as [`CallError::Other`], and a client as [`RunError::Ended`](crate::RunError::Ended),
/// both of kind [`FailureKind::Application`].
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use sync_workflow::TypedError;
///
/// #[derive(Debug, Serialize, Deserialize)]
/// enum ChargeError { Declined, Unreachable }
///
/// impl std::fmt::Display for ChargeError {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") }
/// }
/// impl std::error::Error for ChargeError {}
///
/// impl TypedError for ChargeError {
///     fn is_final(&self) -> bool { matches!(self, Self::Declined) }
/// }
/// ```
pub trait TypedError: Error + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Whether another attempt is pointless.
    fn is_final(&self) -> bool {
        false
    }
}

/// What activities and workflows may return as their error: [`Failure`], or any [`TypedError`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no error that a journal can hold",
    label = "neither `Failure` nor a `TypedError`",
    note = "return `Failure`, into which `?` turns every `std::error::Error`; or implement `TypedError` for the type, so that \
            workflow code can match on it"
)]
pub trait ErrorValue: Send + Sync + Sized + 'static {
    /// The error as the journal records it.
    fn into_failure(self) -> Failure;

    /// The error that was recorded, if this failure holds one of this type.
    fn from_failure(failure: &Failure) -> Option<Self>;
}

impl ErrorValue for Failure {
    fn into_failure(self) -> Failure {
        self
    }

    fn from_failure(failure: &Failure) -> Option<Self> {
        (failure.kind == FailureKind::Application).then(|| failure.clone())
    }
}

impl<E: TypedError> ErrorValue for E {
    fn into_failure(self) -> Failure {
        let mut failure = Failure::from_error(&self);
        failure.is_final = self.is_final();
        match serde_json::to_value(&self) {
            Ok(value) => failure.value = Some(value),
            Err(error) => failure.add_cause(format!("its value has no JSON form: {error}")),
        }
        failure
    }

    fn from_failure(failure: &Failure) -> Option<Self> {
        if failure.kind != FailureKind::Application {
            return None;
        }
        serde_json::from_value(failure.value.clone()?).ok()
    }
}

/// Why a durable call did not return a value.
///
/// `?` turns it into a [`Failure`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallError<E = Failure> {
    /// The called code returned this error, and no attempt is left.
    Failed(E),
    /// Everything else: time ran out, it was cancelled, it panicked, … ([`Failure::kind`] tells).
    /// Of kind [`FailureKind::Application`] when the code returned an error whose value could not
    /// be stored as JSON, or does not fit the type.
    Other(Failure),
}

impl<E: ErrorValue> CallError<E> {
    pub(crate) fn from_failure(failure: Failure) -> Self {
        match E::from_failure(&failure) {
            Some(error) => Self::Failed(error),
            None => Self::Other(failure),
        }
    }

    /// Whether the call, or the run that made it, was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is_kind(FailureKind::Cancelled)
    }

    /// Whether the call failed in this way.
    #[must_use]
    pub fn is_kind(&self, kind: FailureKind) -> bool {
        match self {
            Self::Failed(_) => kind == FailureKind::Application,
            Self::Other(failure) => failure.kind == kind,
        }
    }

    /// The error as a failure.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Failed(error) => error.into_failure(),
            Self::Other(failure) => failure,
        }
    }
}

impl<E: ErrorValue> From<CallError<E>> for Failure {
    fn from(error: CallError<E>) -> Self {
        error.into_failure()
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Other(failure) => failure.fmt(f),
        }
    }
}

/// The run was asked to cancel while it waited, or before it began to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl From<Cancelled> for Failure {
    fn from(Cancelled: Cancelled) -> Self {
        Self::cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Says what its source says, as the errors of many libraries do.
    #[derive(Debug, thiserror::Error)]
    #[error("the {layer} layer failed: {source}")]
    struct Echo {
        layer: &'static str,
        source: Box<dyn Error + Send + Sync>,
    }

    fn echo(layer: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Echo {
        Echo {
            layer,
            source: source.into(),
        }
    }

    #[test]
    fn what_an_error_says_of_its_sources_is_not_said_again() {
        let failure = Failure::from(echo("upper", echo("lower", "no route")));
        assert_eq!(
            failure.to_string(),
            "the upper layer failed: the lower layer failed: no route"
        );
        assert!(failure.causes.is_empty(), "{:?}", failure.causes);
    }

    /// A typed error; only some of its values have a JSON form.
    #[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
    enum Odd {
        #[error("a plain one")]
        Plain(u8),
        #[error("a map with numbers in pairs")]
        Pairs(BTreeMap<(u8, u8), u8>),
    }

    impl TypedError for Odd {
        fn is_final(&self) -> bool {
            true
        }
    }

    /// The failure after it was written and read.
    fn recorded(error: Odd) -> Failure {
        Failure::decode(&error.into_failure().encode())
    }

    #[test]
    fn a_typed_error_comes_back_with_its_value() {
        let failure = recorded(Odd::Plain(7));
        assert_eq!(Odd::from_failure(&failure), Some(Odd::Plain(7)));
        assert_eq!(failure.to_string(), "a plain one");
    }

    #[test]
    fn a_typed_error_without_a_json_form_keeps_its_words_and_says_what_is_missing() {
        let failure = recorded(Odd::Pairs(BTreeMap::from([((1, 2), 3)])));
        assert_eq!(
            failure.to_string(),
            "a map with numbers in pairs: its value has no JSON form: key must be a string"
        );
        assert!(failure.is_final && failure.value.is_none());
        let Err::<(), _>(CallError::<Odd>::Other(failure)) = Err(CallError::from_failure(failure))
        else {
            panic!("the value cannot have come back")
        };
        assert_eq!(failure.kind, FailureKind::Application);
    }

    #[test]
    fn a_stored_value_that_no_longer_fits_its_type_keeps_its_words() {
        let mut failure = recorded(Odd::Plain(7));
        failure.value = Some(serde_json::json!({ "Gone": 7 }));
        let error = CallError::<Odd>::from_failure(failure);
        assert!(matches!(&error, CallError::Other(_)), "{error:?}");
        assert_eq!(error.to_string(), "a plain one");
    }
}
