//! How large an organisation is.

/// How many records of each kind an organisation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Size {
    /// Sites.
    pub campuses: usize,
    /// People.
    pub people: usize,
    /// Households; their memberships follow from the people.
    pub households: usize,
    /// Email addresses.
    pub emails: usize,
    /// Phone numbers.
    pub phone_numbers: usize,
    /// Postal addresses.
    pub addresses: usize,
    /// Records of past merges.
    pub person_mergers: usize,
    /// Kinds of group.
    pub group_types: usize,
    /// Groups.
    pub groups: usize,
    /// Places in groups.
    pub memberships: usize,
    /// Meetings of groups.
    pub events: usize,
}

impl Size {
    /// The proportions of an ordinary church with this many people.
    ///
    /// ```
    /// let size = mock_api::Size::of(1_000);
    /// assert_eq!((size.households, size.emails, size.addresses), (600, 1_300, 1_200));
    /// ```
    pub fn of(people: usize) -> Self {
        let some = usize::from(people > 0);
        Self {
            campuses: some * (people / 50).clamp(1, 20),
            people,
            households: people * 6 / 10,
            emails: people * 13 / 10,
            phone_numbers: people * 8 / 10,
            addresses: people * 12 / 10,
            person_mergers: people / 200,
            group_types: some * 6,
            groups: some * (people / 25).max(3),
            memberships: people * 3 / 10,
            events: people * 2 / 10,
        }
    }
}
