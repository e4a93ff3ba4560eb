//! The one look of all tables.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table};

/// Light lines, no lines between rows.
const LIGHT: &str = "││──├─┼┤│    ┬┴┌┐└┘";

/// Which way a column's cells lean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Lean {
    /// Names.
    Left,
    /// Amounts.
    Right,
}

/// A heading, then a table of `rows` under `columns`, at most `width` wide as far as amounts, which never break, allow.
pub(in crate::report) fn titled(heading: &str, columns: &[(&str, Lean)], rows: Vec<Vec<String>>, width: u16) -> String {
    let mut table = Table::new();
    table.load_preset(LIGHT).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table.set_header(columns.iter().map(|(name, lean)| cell(name, *lean)));
    for row in rows {
        table.add_row(row.iter().zip(columns).map(|(text, (_, lean))| cell(text, *lean)));
    }
    for (column, (_, lean)) in table.column_iter_mut().zip(columns) {
        if *lean == Lean::Right {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    format!("{heading}\n{table}")
}

/// The line that owns up to rows left out, of which each is a `noun`; empty when there are none.
pub(super) fn omitted(total: usize, shown: usize, noun: &str) -> String {
    match total.saturating_sub(shown) {
        0 => String::new(),
        1 => format!("\n… and 1 more {noun}"),
        rest => format!("\n… and {rest} more {noun}s"),
    }
}

fn cell(text: &str, lean: Lean) -> Cell {
    Cell::new(text).set_alignment(match lean {
        Lean::Left => CellAlignment::Left,
        Lean::Right => CellAlignment::Right,
    })
}
