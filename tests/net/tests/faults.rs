//! Each fault's short form; minutes more with EPHEMWORK_NET_LONG=1. That no answer is wrong, missing or a
//! failure where none may be, and that good ones come again, is demanded here; how soon, by the benchmark (`cargo xtask bench faults`).

use std::path::PathBuf;
use std::process::Command;

use ephemwork_net::world::{Programs, World, library};
use ephemwork_net::{FAULTS, Form, missing, report};

use crate::one_world;

/// The executables. The helper's belongs to another package, which a run of only this test does not build.
pub(crate) fn programs() -> Programs {
    let ephemwork = PathBuf::from(env!("CARGO_BIN_EXE_ephemwork"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--workspace",
            "--bin",
            "ephemwork-net",
            "--target-dir",
        ])
        .arg(ephemwork.ancestors().nth(2).unwrap())
        .status()
        .expect("cargo can be started");
    assert!(built.success(), "ephemwork-net cannot be built");
    Programs {
        helper: ephemwork.with_file_name("ephemwork-net"),
        ephemwork,
    }
}

#[test]
fn what_clients_see_of_faults() {
    let _one = one_world();
    if let Some(missing) = missing() {
        // Rights cannot be installed, so nothing is required of who lacks them.
        eprintln!("skipped: the network's faults need {missing}");
        return;
    }
    let form = if std::env::var_os("EPHEMWORK_NET_LONG").is_some() {
        Form::Long
    } else {
        Form::Short
    };
    let only = std::env::var("EPHEMWORK_NET_ONLY").unwrap_or_default();
    let programs = programs();
    let directory = std::env::temp_dir().join(format!("ephemwork-net-{}", std::process::id()));
    let mut missed = Vec::new();
    println!("{}", report::HEAD);
    for clock in [false, true] {
        let faults: Vec<_> = FAULTS
            .iter()
            .filter(|fault| fault.clock == clock && fault.form <= form && fault.name.contains(&only))
            .collect();
        if faults.is_empty() {
            continue;
        }
        if clock && library().is_none() {
            eprintln!("skipped: clocks that jump need libfaketime (package libfaketime)");
            continue;
        }
        let mut world = World::start(&directory, &programs, clock).unwrap();
        for fault in faults {
            let row = fault
                .measure(&mut world)
                .unwrap_or_else(|why| panic!("{}: {why}", fault.name));
            println!("{}", row.line());
            if let Some(why) = row.wrong() {
                missed.push(format!("{}: {why}: {}\n{}", fault.name, row.saw(), world.logs()));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}
