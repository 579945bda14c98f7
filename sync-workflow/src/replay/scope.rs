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
#[derive(Default)]
pub(super) struct Scopes {
    is_run_cancelled: bool,
    /// Those that the code opened, numbered after the two that every run has.
    opened: Vec<Scope>,
}

struct Scope {
    /// It is cancelled with this one.
    within: ScopeId,
    is_cancelled: bool,
}

impl Scopes {
    pub(super) fn open(&mut self, within: ScopeId) -> ScopeId {
        self.opened.push(Scope {
            within,
            is_cancelled: false,
        });
        ScopeId(u32::try_from(self.opened.len() + 1).unwrap_or(u32::MAX))
    }

    /// `false` when it was cancelled before.
    pub(super) fn cancel(&mut self, scope: ScopeId) -> bool {
        let was_cancelled = self.is_cancelled(scope);
        match place(scope).and_then(|place| self.opened.get_mut(place)) {
            Some(opened) => opened.is_cancelled = true,
            None => self.is_run_cancelled |= scope == ScopeId::RUN,
        }
        !was_cancelled
    }

    pub(super) fn is_cancelled(&self, scope: ScopeId) -> bool {
        self.up_from(scope).any(|scope| match self.opened(scope) {
            Some(opened) => opened.is_cancelled,
            None => scope == ScopeId::RUN && self.is_run_cancelled,
        })
    }

    pub(super) fn is_within(&self, inner: ScopeId, outer: ScopeId) -> bool {
        self.up_from(inner).any(|scope| scope == outer)
    }

    /// A scope and those that it lies in.
    fn up_from(&self, scope: ScopeId) -> impl Iterator<Item = ScopeId> {
        std::iter::successors(Some(scope), |scope| {
            self.opened(*scope).map(|opened| opened.within)
        })
    }

    fn opened(&self, scope: ScopeId) -> Option<&Scope> {
        place(scope).and_then(|place| self.opened.get(place))
    }
}

/// The place of a scope among those that the code opened.
const fn place(scope: ScopeId) -> Option<usize> {
    (scope.0 as usize).checked_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_cancelled_with_those_around_it() {
        let mut scopes = Scopes::default();
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
