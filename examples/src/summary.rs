//! What an example prints when it is done.

use std::io::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use sync_core::SyncStatus;
use sync_engine::RunReport;

/// Whether the sync did all that it could.
#[must_use]
pub fn is_success(report: &RunReport) -> bool {
    matches!(
        report.status,
        SyncStatus::Succeeded | SyncStatus::SucceededWithQuarantine
    )
}

/// Prints a report: as JSON, or as a table and what a person should know beside it.
///
/// # Errors
///
/// The standard output cannot be written.
pub fn print(report: &RunReport, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    writeln!(out, "{}", table(report))?;
    let totals = report.totals();
    let records = totals.changes.received();
    writeln!(
        out,
        "{} sync of {}: {} in {:.1} s, {records} records, {} requests",
        report.sync_type, report.org, report.status, report.seconds, totals.requests
    )?;
    for entity in report
        .entities
        .iter()
        .filter(|entity| entity.reason.is_some())
    {
        writeln!(
            out,
            "{}: {}",
            entity.entity,
            entity.reason.as_deref().unwrap_or_default()
        )?;
    }
    for unresolved in &report.unresolved {
        let (entity, column) = (&unresolved.entity, &unresolved.column);
        writeln!(
            out,
            "{entity}.{column}: {} references lead to no {}",
            unresolved.rows, unresolved.target
        )?;
    }
    for warning in &report.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn table(report: &RunReport) -> Table {
    const COLUMNS: [&str; 10] = [
        "entity",
        "status",
        "inserted",
        "updated",
        "unchanged",
        "deleted",
        "quarantined",
        "pages",
        "requests",
        "seconds",
    ];
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_header(COLUMNS);
    for entity in &report.entities {
        let changes = entity.counts.changes;
        table.add_row([
            entity.entity.to_string(),
            entity.status.to_string(),
            changes.inserted.to_string(),
            changes.updated.to_string(),
            changes.unchanged.to_string(),
            changes.deleted.to_string(),
            changes.quarantined.to_string(),
            entity.counts.pages.to_string(),
            entity.counts.requests.to_string(),
            format!("{:.1}", entity.seconds),
        ]);
    }
    for column in 2..COLUMNS.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
