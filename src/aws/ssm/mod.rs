//! Systems Manager: parameters, agents, sessions. And EC2 Instance Connect's one call.

mod parameters;
mod sessions;

pub use parameters::{DeleteParameter, Existing, GetParameter, GetParametersByPath, Parameter, ParameterKind, PutParameter};
pub use sessions::{
    Agent, DescribeInstanceInformation, DescribeSessions, ResumeSession, SendSSHPublicKey, Session, SessionFilter, StartSession,
    Started, TerminateSession,
};

use serde_json::Value;

use super::call::Ask;
use super::json;

fn ask(operation: &str, body: &Value) -> Ask {
    json::ask(format!("AmazonSSM.{operation}"), body)
}

#[cfg(test)]
mod tests;
