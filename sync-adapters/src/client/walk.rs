//! From one page to the next: the end is a signal that the counts must not contradict.

use sync_core::{
    EntityName, ExternalId,
    manifest::{Pagination, Paginator, Stop},
};

use super::{
    Error, Incomplete, Next, PageToken,
    envelope::{Envelope, StopValue},
    error::ProtocolProblem,
    page::Position,
};

/// Empty pages in a row that an opaque cursor may give before the walk counts as stalled.
const MOST_EMPTY_PAGES: u8 = 3;

/// What a page says about the walk.
pub(super) struct Outlook<'a> {
    pub(super) entity: &'a EntityName,
    pub(super) pagination: &'a Pagination,
    /// Rows asked for.
    pub(super) asked: u32,
    /// The token that this page was asked for with.
    pub(super) token: &'a PageToken,
    pub(super) envelope: &'a Envelope,
    /// The `rel="next"` entry of the `Link` header.
    pub(super) link: Option<&'a str>,
    /// The id of the last row, for paginators that go by it.
    pub(super) last_id: Option<ExternalId>,
}

impl Outlook<'_> {
    /// Where the walk goes from here.
    pub(super) fn next(&self) -> Result<Next, Error> {
        let received = self.token.received + self.rows();
        if self.has_ended(received)? {
            return Ok(self.judge_end(received));
        }
        if let Some(max_window) = self
            .pagination
            .max_window
            .filter(|window| received >= *window)
        {
            return Ok(Next::Incomplete(Incomplete::WindowExhausted { max_window }));
        }
        let Some(position) = self.advance()? else {
            return Ok(Next::Incomplete(Incomplete::MissingPointer));
        };
        let empty_pages = if self.rows() == 0 {
            self.token.empty_pages + 1
        } else {
            0
        };
        if position == self.token.position || empty_pages > MOST_EMPTY_PAGES {
            return Err(self.stalled());
        }
        Ok(Next::Page(PageToken {
            position,
            received,
            empty_pages,
        }))
    }

    fn rows(&self) -> u64 {
        self.envelope.records.len() as u64
    }

    fn has_ended(&self, received: u64) -> Result<bool, Error> {
        Ok(match &self.pagination.stop {
            Stop::MissingNext { next: None } => self.link.is_none(),
            Stop::MissingNext { next: Some(_) } => {
                matches!(self.envelope.stop, None | Some(StopValue::Missing))
            }
            Stop::HasMoreFalse { flag } => match self.envelope.stop {
                Some(StopValue::False) => true,
                Some(StopValue::Present) => false,
                Some(StopValue::Missing) | None => return Err(lacks(flag)),
            },
            Stop::ShortPage => self.rows() < u64::from(self.asked),
            Stop::Total => match self.envelope.total {
                Some(total) => received >= total,
                None => return Err(lacks("the total")),
            },
        })
    }

    fn judge_end(&self, received: u64) -> Next {
        let total = self.envelope.total;
        if let Some(cap) = self.pagination.capped_total
            && (total == Some(cap) || received == cap)
        {
            return Next::Incomplete(Incomplete::CappedTotal { cap });
        }
        match total {
            Some(total) if received < total => {
                Next::Incomplete(Incomplete::FewerThanTotal { received, total })
            }
            _ => Next::End,
        }
    }

    /// The next place; `None` when the API gives no pointer to it.
    fn advance(&self) -> Result<Option<Position>, Error> {
        let rows = self.rows();
        Ok(match &self.pagination.paginator {
            // By the rows received: a clamped page would otherwise skip what it did not send.
            Paginator::Offset { .. } if rows == 0 => return Err(self.stalled()),
            Paginator::Offset { .. } => {
                Some(Position::Offset(offset_of(&self.token.position) + rows))
            }
            Paginator::Page { first, .. } => {
                Some(Position::Page(page_of(&self.token.position, *first) + 1))
            }
            Paginator::CursorParam { .. } => self.envelope.pointer.clone().map(Position::Cursor),
            Paginator::JsonNext { .. } => self.envelope.pointer.clone().map(Position::Url),
            Paginator::LinkHeader => self.link.map(|link| Position::Url(link.to_owned())),
            Paginator::LastId { .. } => self
                .last_id
                .as_ref()
                .map(|id| Position::LastId(id.as_str().to_owned())),
        })
    }

    fn stalled(&self) -> Error {
        Error::PaginationStalled {
            entity: self.entity.clone(),
            received: self.token.received,
        }
    }
}

/// The offset of a place.
pub(super) fn offset_of(position: &Position) -> u64 {
    match position {
        Position::Offset(offset) => *offset,
        _ => 0,
    }
}

/// The page number of a place.
pub(super) fn page_of(position: &Position, first: u32) -> u64 {
    match position {
        Position::Page(number) => *number,
        _ => u64::from(first),
    }
}

fn lacks(what: impl ToString) -> Error {
    ProtocolProblem::Envelope {
        what: what.to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    struct Case {
        pagination: Pagination,
        token: PageToken,
        envelope: Envelope,
        link: Option<&'static str>,
    }

    fn case(paginator: Paginator, stop: Stop, rows: usize) -> Case {
        let row = RawValue::from_string("{}".to_owned()).unwrap();
        Case {
            pagination: Pagination {
                paginator,
                stop,
                page_size: 100,
                page_size_param: None,
                records: "data".parse().unwrap(),
                included: None,
                total: None,
                max_window: None,
                capped_total: None,
            },
            token: PageToken::start(),
            envelope: Envelope {
                records: vec![row; rows],
                included: Vec::new(),
                total: None,
                pointer: None,
                stop: None,
            },
            link: None,
        }
    }

    fn offset_case(rows: usize, stop: StopValue, total: u64) -> Case {
        let stop_rule = Stop::MissingNext {
            next: Some("meta.next".parse().unwrap()),
        };
        let mut case = case(
            Paginator::Offset {
                param: "offset".into(),
            },
            stop_rule,
            rows,
        );
        case.envelope.stop = Some(stop);
        case.envelope.total = Some(total);
        case
    }

    fn next(case: &Case) -> Result<Next, Error> {
        let entity = EntityName::new("Thing").unwrap();
        Outlook {
            entity: &entity,
            pagination: &case.pagination,
            asked: 100,
            token: &case.token,
            envelope: &case.envelope,
            link: case.link,
            last_id: None,
        }
        .next()
    }

    #[test]
    fn an_offset_advances_by_the_rows_received() {
        let case = offset_case(37, StopValue::Present, 500);
        let token = next(&case).unwrap().token().cloned().unwrap();
        assert_eq!(token.position, Position::Offset(37));
        assert_eq!(token.received(), 37);
    }

    #[test]
    fn an_empty_page_with_a_next_one_is_a_stalled_walk() {
        let case = offset_case(0, StopValue::Present, 500);
        assert!(matches!(next(&case), Err(Error::PaginationStalled { .. })));
    }

    #[test]
    fn a_missing_next_is_the_end_only_when_the_total_agrees() {
        assert_eq!(
            next(&offset_case(37, StopValue::Missing, 37)).unwrap(),
            Next::End
        );
        assert_eq!(
            next(&offset_case(37, StopValue::Missing, 500)).unwrap(),
            Next::Incomplete(Incomplete::FewerThanTotal {
                received: 37,
                total: 500
            })
        );
    }

    #[test]
    fn a_walk_that_ends_at_a_cap_is_incomplete() {
        let mut case = offset_case(100, StopValue::Missing, 10_000);
        case.pagination.capped_total = Some(10_000);
        case.token.received = 9_900;
        case.token.position = Position::Offset(9_900);
        assert_eq!(
            next(&case).unwrap(),
            Next::Incomplete(Incomplete::CappedTotal { cap: 10_000 })
        );
    }

    #[test]
    fn a_walk_deeper_than_the_window_is_incomplete() {
        let mut case = offset_case(100, StopValue::Present, 20_000);
        case.pagination.max_window = Some(10_000);
        case.token.received = 9_900;
        assert_eq!(
            next(&case).unwrap(),
            Next::Incomplete(Incomplete::WindowExhausted { max_window: 10_000 })
        );
    }

    #[test]
    fn a_cursor_that_repeats_or_gives_only_empty_pages_is_stalled() {
        let paginator = Paginator::CursorParam {
            param: "after".into(),
            next: "next".parse().unwrap(),
        };
        let stop = Stop::MissingNext {
            next: Some("next".parse().unwrap()),
        };
        let mut case = case(paginator, stop, 0);
        case.envelope.stop = Some(StopValue::Present);
        let mut steps = 0;
        loop {
            case.envelope.pointer = Some(format!("c{steps}"));
            match next(&case) {
                Ok(Next::Page(token)) => case.token = token,
                Err(Error::PaginationStalled { .. }) => break,
                other => panic!("{other:?}"),
            }
            steps += 1;
        }
        assert_eq!(steps, usize::from(MOST_EMPTY_PAGES));
        case.token = PageToken {
            position: Position::Cursor("same".into()),
            received: 5,
            empty_pages: 0,
        };
        case.envelope.pointer = Some("same".into());
        assert!(matches!(next(&case), Err(Error::PaginationStalled { .. })));
    }

    #[test]
    fn each_stop_rule_ends_the_walk() {
        let page = || Paginator::Page {
            param: "page".into(),
            first: 1,
        };
        assert_eq!(next(&case(page(), Stop::ShortPage, 99)).unwrap(), Next::End);
        assert!(
            next(&case(page(), Stop::ShortPage, 100))
                .unwrap()
                .token()
                .is_some()
        );

        let mut by_total = case(page(), Stop::Total, 100);
        assert!(matches!(next(&by_total), Err(Error::Protocol(_))));
        by_total.envelope.total = Some(100);
        assert_eq!(next(&by_total).unwrap(), Next::End);

        let flag = || Stop::HasMoreFalse {
            flag: "has_more".parse().unwrap(),
        };
        let mut flagged = case(page(), flag(), 100);
        flagged.envelope.stop = Some(StopValue::False);
        assert_eq!(next(&flagged).unwrap(), Next::End);
        flagged.envelope.stop = Some(StopValue::Missing);
        assert!(matches!(next(&flagged), Err(Error::Protocol(_))));

        let mut linked = case(Paginator::LinkHeader, Stop::MissingNext { next: None }, 30);
        assert_eq!(next(&linked).unwrap(), Next::End);
        linked.link = Some("https://api.example.com/x?page=2");
        assert!(next(&linked).unwrap().token().is_some());
    }
}
