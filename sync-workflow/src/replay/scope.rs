//! Cancellation scopes: which calls are cancelled together.

/// A scope of one run, numbered in the order in which the code opened them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScopeId(u32);

impl ScopeId {
    /// Cancelled when somebody asks the run to cancel.
    pub(crate) const RUN: Self = Self(0);
    /// Never cancelled.
    pub(crate) const SHIELD: Self = Self(1);
}

/// The scopes of one run.
pub(super) struct Scopes(Vec<Scope>);

struct Scope {
    /// It is cancelled with this one.
    within: Option<ScopeId>,
    is_cancelled: bool,
}

impl Scopes {
    pub(super) fn new() -> Self {
        let outermost = || Scope {
            within: None,
            is_cancelled: false,
        };
        Self(vec![outermost(), outermost()])
    }

    pub(super) fn open(&mut self, within: ScopeId) -> ScopeId {
        let id = ScopeId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(Scope {
            within: Some(within),
            is_cancelled: false,
        });
        id
    }

    /// `false` when it was cancelled before.
    pub(super) fn cancel(&mut self, scope: ScopeId) -> bool {
        let was_cancelled = self.is_cancelled(scope);
        if let Some(scope) = self.0.get_mut(scope.0 as usize) {
            scope.is_cancelled = true;
        }
        !was_cancelled
    }

    pub(super) fn is_cancelled(&self, scope: ScopeId) -> bool {
        self.up_from(scope).any(|(_, scope)| scope.is_cancelled)
    }

    pub(super) fn is_within(&self, inner: ScopeId, outer: ScopeId) -> bool {
        self.up_from(inner).any(|(id, _)| id == outer)
    }

    /// A scope and those that it lies in.
    fn up_from(&self, scope: ScopeId) -> impl Iterator<Item = (ScopeId, &Scope)> {
        let get = |id: ScopeId| self.0.get(id.0 as usize).map(|scope| (id, scope));
        std::iter::successors(get(scope), move |(_, scope)| scope.within.and_then(get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_cancelled_with_those_around_it() {
        let mut scopes = Scopes::new();
        let outer = scopes.open(ScopeId::RUN);
        let inner = scopes.open(outer);
        let beside = scopes.open(ScopeId::RUN);
        let shielded = scopes.open(ScopeId::SHIELD);
        assert!(scopes.cancel(outer));
        assert!(!scopes.cancel(inner), "it is cancelled already");
        for (scope, is_cancelled) in [
            (outer, true),
            (inner, true),
            (beside, false),
            (shielded, false),
            (ScopeId::RUN, false),
        ] {
            assert_eq!(scopes.is_cancelled(scope), is_cancelled, "{scope:?}");
        }
        assert!(scopes.cancel(ScopeId::RUN));
        assert!(scopes.is_cancelled(beside) && !scopes.is_cancelled(shielded));
        assert!(scopes.is_within(inner, ScopeId::RUN) && !scopes.is_within(outer, inner));
    }
}
