//! Payloads that are offloaded from their records.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::world::{WORKFLOW, World, new_run, run_id};
use crate::{
    id::RunId,
    journal::{Deletion, Journal, Piece, PiecePlace, Result},
};

const PLACE: PiecePlace = PiecePlace {
    digest: u128::MAX - 7,
    number: 0,
};

fn piece(run: RunId, number: u32) -> Piece {
    Piece {
        run,
        place: PiecePlace { number, ..PLACE },
        bytes: Bytes::from(vec![number as u8; 3_000]),
        is_before_birth: false,
    }
}

pub async fn a_piece_comes_back_as_it_was_kept(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let (run, other) = (world.born("a").await?, world.born("b").await?);
    assert_eq!(world.piece(run, PLACE).await?, None);
    for number in [0, 1, 1] {
        world.keep_piece(&piece(run, number)).await?;
    }
    for number in [0, 1] {
        let place = PiecePlace { number, ..PLACE };
        assert_eq!(
            world.piece(run, place).await?,
            Some(piece(run, number).bytes)
        );
        assert_eq!(world.piece(other, place).await?, None);
        let unknown = PiecePlace { digest: 7, number };
        assert_eq!(world.piece(run, unknown).await?, None);
    }
    Ok(())
}

pub async fn pieces_are_kept_for_runs_that_are_there_or_about_to_be(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let gone = run_id();
    world.keep_piece(&piece(gone, 0)).await?;
    assert_eq!(world.piece(gone, PLACE).await?, None);

    let (born, unborn) = (new_run("a"), new_run("b"));
    for run in [born.run, unborn.run] {
        let before = Piece {
            is_before_birth: true,
            ..piece(run, 0)
        };
        world.keep_piece(&before).await?;
        assert!(world.piece(run, PLACE).await?.is_some());
    }
    world.start(&born).await?;
    for _ in 0..2 {
        world.settle_pieces(&[born.run, unborn.run, gone]).await?;
        assert!(world.piece(born.run, PLACE).await?.is_some());
        assert_eq!(world.piece(unborn.run, PLACE).await?, None);
    }
    Ok(())
}

pub async fn pieces_are_deleted_with_their_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let (ended, open) = (world.born("a").await?, world.born("b").await?);
    for run in [ended, open] {
        world.keep_piece(&piece(run, 0)).await?;
    }
    world.close(ended, 1).await?;
    let everything = Deletion {
        workflow: WORKFLOW.into(),
        closed_for: Duration::ZERO,
        after: None,
    };
    assert_eq!(world.delete_closed(&everything).await?.runs, 1);
    assert_eq!(world.piece(ended, PLACE).await?, None);
    assert!(world.piece(open, PLACE).await?.is_some());
    // Whoever was late leaves nothing.
    world.keep_piece(&piece(ended, 0)).await?;
    assert_eq!(world.piece(ended, PLACE).await?, None);
    Ok(())
}
