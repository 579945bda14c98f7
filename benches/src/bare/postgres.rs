//! The bare loop on Postgres: one statement per group, with a fence.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Columns, Row};

const SCHEMA: &str = r#"
CREATE SCHEMA bare;
CREATE TABLE bare.nodes (node_id uuid PRIMARY KEY);
CREATE TABLE bare.journal (
    run_id      uuid        NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    fingerprint bigint      NOT NULL,
    position    integer     NOT NULL,
    command     integer     NOT NULL,
    kind        smallint    NOT NULL,
    name        text        COLLATE "C" NOT NULL,
    payload     bytea       NOT NULL,
    PRIMARY KEY (run_id, position)
);
"#;

const WRITE: &str = "
WITH fence AS MATERIALIZED (
    SELECT node_id FROM bare.nodes WHERE node_id = $1 FOR KEY SHARE
)
INSERT INTO bare.journal (run_id, position, kind, command, name, fingerprint, payload)
SELECT e.run_id, e.position, e.kind, e.command, e.name, e.fingerprint, e.payload
FROM fence
CROSS JOIN unnest($2::uuid[], $3::integer[], $4::smallint[], $5::integer[], $6::text[],
                  $7::bigint[], $8::bytea[])
    AS e(run_id, position, kind, command, name, fingerprint, payload)";

const WRITE_ONE: &str = "
INSERT INTO bare.journal (run_id, position, kind, command, name, fingerprint, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// The connection of the writer.
pub(crate) struct Writer {
    connection: PgConnection,
    node: Uuid,
}

impl Writer {
    pub(super) async fn create(url: &str) -> sqlx::Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        let node = Uuid::new_v4();
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        let insert = sqlx::query("INSERT INTO bare.nodes VALUES ($1)").bind(node);
        insert.execute(&mut connection).await?;
        Ok(Self { connection, node })
    }

    pub(super) async fn write(&mut self, rows: &[Row]) -> sqlx::Result<()> {
        let column = Columns::of(rows.iter());
        sqlx::query(WRITE)
            .bind(self.node)
            .bind(&column.run)
            .bind(&column.position)
            .bind(&column.kind)
            .bind(&column.command)
            .bind(&column.name)
            .bind(&column.fingerprint)
            .bind(&column.payload)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    pub(super) async fn write_one(&mut self, row: &Row) -> sqlx::Result<()> {
        sqlx::query(WRITE_ONE)
            .bind(row.run)
            .bind(row.position)
            .bind(row.kind)
            .bind(row.command)
            .bind(row.name)
            .bind(row.fingerprint)
            .bind(&row.payload)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
