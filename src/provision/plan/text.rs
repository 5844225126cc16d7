//! A plan as a person reads it, and as `--json` prints it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::step::Step;
use super::Plan;

/// How wide a parameter's name is at most, in characters.
const NAME: usize = 12;

/// The steps, numbered, each with its parameters; with `verbose` also whole documents.
pub fn text(plan: &Plan, verbose: bool) -> String {
    let mut text = String::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let repair = if plan.repairs && step.writes() { "repair: " } else { "" };
        text += &format!("{:4}  {repair}{}\n", number + 1, step.title());
        for (name, value) in step.parameters() {
            text += &format!("        {name:NAME$} {value}\n");
        }
        if verbose {
            for (name, document) in step.documents() {
                text += &format!("        {name}\n");
                for line in document.lines() {
                    text += format!("          | {line}").trim_end();
                    text.push('\n');
                }
            }
        }
    }
    for note in &plan.notes {
        text += &format!("note: {note}\n");
    }
    text
}

/// The same as data; documents are in it with `verbose`.
pub fn object(plan: &Plan, verbose: bool) -> Value {
    let step = |step: &Step| {
        let mut parameters: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in step.parameters() {
            let all = parameters.entry(name).or_default();
            *all = if all.is_empty() { value } else { format!("{all} and {value}") };
        }
        let actions: Vec<&str> = step.actions().into_iter().map(|(action, _)| action).collect();
        let mut object = json!({ "does": step.title(), "changes": step.writes(), "parameters": parameters, "actions": actions });
        if verbose {
            let documents = step.documents().into_iter();
            object["documents"] = documents.map(|(name, text)| (name.to_owned(), Value::from(text))).collect();
        }
        object
    };
    json!({ "steps": plan.steps.iter().map(step).collect::<Vec<_>>(), "notes": plan.notes, "repairs": plan.repairs })
}
