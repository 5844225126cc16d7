//! `cargo xtask bench faults`: what clients of the edge see while the network, the bastion or the laptop fail, and how soon all is well
//! again. The harness and the faults are those of tests/net, in network namespaces; it needs root.

use std::path::Path;

use ephemwork_net::world::{Programs, World, library};
use ephemwork_net::{FAULTS, Form, missing, report};
use serde_json::{Value, json};

/// What is asked for.
pub(super) struct Order<'a> {
    pub(super) form: Form,
    /// Parts of names; none is all.
    pub(super) only: &'a [String],
    /// Beside each other.
    pub(super) ephemwork: &'a Path,
    pub(super) helper: &'a Path,
    /// One that may be made.
    pub(super) directory: &'a Path,
}

/// Measures; prints the table and gives it as JSON. What cannot be put on here is said below the table.
pub(super) fn measure(order: &Order<'_>, about: &Value) -> (Value, Result<(), String>) {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    let result = measure_into(order, &mut rows, &mut notes);
    let mut table = format!("{}\n", report::HEAD);
    for row in &rows {
        table.push_str(&format!("{}\n", row.line()));
    }
    println!("\n{table}");
    for note in &notes {
        println!("not measured: {note}");
    }
    let rows: Vec<Value> = rows.iter().map(report::Row::json).collect();
    (json!({"about": about, "faults": rows, "notes": notes}), result)
}

fn measure_into(order: &Order<'_>, rows: &mut Vec<report::Row>, notes: &mut Vec<String>) -> Result<(), String> {
    if let Some(missing) = missing() {
        return Err(format!("the network's faults need {missing}"));
    }
    let programs = Programs {
        ephemwork: order.ephemwork.to_owned(),
        helper: order.helper.to_owned(),
    };
    for clock in [false, true] {
        let wanted = |name: &str| order.only.is_empty() || order.only.iter().any(|only| name.contains(only.as_str()));
        let faults = FAULTS.iter().filter(|fault| fault.clock == clock && fault.form <= order.form);
        let faults: Vec<_> = faults.filter(|fault| wanted(fault.name)).collect();
        if clock && library().is_none() && !faults.is_empty() {
            notes.push("clocks that jump need libfaketime (package libfaketime)".to_owned());
            continue;
        }
        let mut world = None;
        for fault in faults {
            println!("{} ...", fault.name);
            let mut here = match world.take() {
                Some(world) => world,
                None => World::start(order.directory, &programs, clock)?,
            };
            match fault.measure(&mut here) {
                Ok(row) => {
                    rows.push(row);
                    world = Some(here);
                }
                // The next one gets a world of its own.
                Err(why) => notes.push(format!("{}: {why}", fault.name)),
            }
        }
    }
    Ok(())
}
