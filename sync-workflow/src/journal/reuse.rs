//! What a start does when its workflow id was used before.

/// What to do when a run of the same workflow id exists. An open run is always returned: a workflow
/// id has at most one. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i16)]
pub enum IdReuse {
    /// The workflow id runs once, ever: a closed run is returned with its result.
    #[default]
    ReturnExisting = 0,
    /// A closed run makes room for a new one.
    StartNew = 1,
    /// Only a run that did not complete makes room for a new one; a completed one is returned.
    StartNewUnlessCompleted = 2,
}
