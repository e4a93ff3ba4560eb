//! What each rung does in each situation: docs/permissions.md has the table that comes of it.
//!
//! A cell that works has delivered the amount of time that the program measured itself; one that does not is what gilscope said.
//! The table is compared with the document where the machine is as that says at its top. Everywhere the doctor must be right.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/live.rs"]
mod live;

mod cell;
mod document;
mod filter;
mod situation;

use std::collections::BTreeMap;

use crate::{
    cell::Cell,
    document::{Document, facts, table},
    live::{outcome, privilege::is_root},
    situation::{Situation, Stage},
};

#[test]
fn every_rung_in_every_situation() {
    if !is_root() {
        outcome::skipped("situations of other users: need root");
        return;
    }
    let stage = Stage::new();
    let rungs = stage.rungs();
    let mut cells = BTreeMap::new();
    for (column, situation) in Situation::ALL.into_iter().enumerate() {
        for mode in situation.modes() {
            let names: Vec<&str> =
                rungs.iter().filter(|rung| rung.fits(*mode)).map(|rung| rung.name.as_str()).collect();
            let found = stage.observe(situation, *mode, &names);
            for (name, cell) in names.into_iter().zip(found) {
                cells.insert((mode.row(), name.to_owned(), column), cell);
            }
        }
    }
    let wrong: Vec<String> = cells
        .iter()
        .filter_map(|((mode, name, column), cell)| {
            cell.contradiction().map(|what| format!("{name}, {mode}, {}: {what}", Situation::ALL[*column].words()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    compare(&table(&cells, &rungs));
}

/// With `GILSCOPE_BLESS=1` the document is written anew.
fn compare(table: &str) {
    let document = Document::read();
    if std::env::var_os("GILSCOPE_BLESS").is_some() {
        document.write(&facts(), table);
    } else if document.facts() != Some(facts().as_str()) {
        outcome::skipped("docs/permissions.md is of another kind of machine: only the doctor was compared");
    } else {
        assert_eq!(document.table(), Some(table), "GILSCOPE_BLESS=1 writes docs/permissions.md anew");
    }
}

#[test]
fn a_cell_is_what_was_delivered() {
    let works = Cell::Works { exact: true, doctor: true };
    assert_eq!((works.contradiction(), works.words()), (None, None));
    let refused = Cell::Refused { said: "no".to_owned(), code: 3, doctor: true };
    assert!(refused.contradiction().is_some_and(|what| what.contains("the doctor")));
}
