//! Parameters: AWS's public ones, and our own.

use std::fmt;

use serde_json::{Map, Value, json};

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::json;
use super::ask;

/// A parameter.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `/aws/service/ami-amazon-linux-latest/..`.
    pub name: String,
    /// Its value, decrypted.
    pub value: String,
    /// How it is kept.
    pub kind: ParameterKind,
    /// Counts up at each change.
    pub version: i64,
}

/// How a parameter is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    String,
    StringList,
    /// Encrypted.
    SecureString,
}

impl ParameterKind {
    fn name(self) -> &'static str {
        match self {
            ParameterKind::String => "String",
            ParameterKind::StringList => "StringList",
            ParameterKind::SecureString => "SecureString",
        }
    }
}

impl fmt::Debug for Parameter {
    /// Without a value that is kept encrypted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.kind == ParameterKind::SecureString;
        f.debug_struct("Parameter")
            .field("name", &self.name)
            .field("value", if secret { &"***" } else { &self.value })
            .field("kind", &self.kind)
            .field("version", &self.version)
            .finish()
    }
}

fn parameter(object: &Map<String, Value>) -> Result<Parameter, Unreadable> {
    Ok(Parameter {
        name: json::need(object, "Name")?,
        value: json::need(object, "Value")?,
        kind: match json::text(object, "Type").as_deref() {
            Some("SecureString") => ParameterKind::SecureString,
            Some("StringList") => ParameterKind::StringList,
            _ => ParameterKind::String,
        },
        version: object.get("Version").and_then(Value::as_i64).unwrap_or_default(),
    })
}

/// Asks for a parameter, decrypted.
#[derive(Clone, Debug)]
pub struct GetParameter {
    /// Which.
    pub name: String,
}

impl Call for GetParameter {
    type Answer = Parameter;
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:GetParameter";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        ask("GetParameter", &json!({"Name": self.name, "WithDecryption": true}))
    }

    fn answer(reply: &Reply) -> Result<Parameter, Unreadable> {
        let object = json::read(reply)?;
        let found = object.get("Parameter").and_then(Value::as_object);
        parameter(found.ok_or_else(|| Unreadable("the answer lacks Parameter".to_owned()))?)
    }
}

/// Lists the parameters under a path, at any depth, decrypted.
#[derive(Clone, Debug)]
pub struct GetParametersByPath {
    /// `/ephemwork/shop`.
    pub path: String,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

impl Call for GetParametersByPath {
    type Answer = Page<Parameter>;
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:GetParametersByPath";

    fn resource(&self) -> Option<String> {
        Some(self.path.clone())
    }

    fn request(&self) -> Ask {
        let mut body = json!({"Path": self.path, "Recursive": true, "WithDecryption": true});
        json::put_some(&mut body, "NextToken", self.next.as_ref());
        ask("GetParametersByPath", &body)
    }

    fn answer(reply: &Reply) -> Result<Page<Parameter>, Unreadable> {
        json::page(reply, "Parameters", parameter)
    }
}

paged!(GetParametersByPath => Parameter);

/// Makes a parameter, or changes its value.
#[derive(Clone)]
pub struct PutParameter {
    /// Its name.
    pub name: String,
    /// Its value, at most 4 KB.
    pub value: String,
    /// How it is kept.
    pub kind: ParameterKind,
    /// What it is for.
    pub description: String,
    /// What happens when it is there already.
    pub existing: Existing,
}

/// What PutParameter does with a parameter that is there already. AWS takes tags only at the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is refused (`ParameterAlreadyExists`); a new one gets these tags.
    Refused(Tags),
    /// It gets the new value.
    Replaced,
}

impl fmt::Debug for PutParameter {
    /// Without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutParameter")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Call for PutParameter {
    /// The version.
    type Answer = i64;
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:PutParameter";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut body = json!({
            "Name": self.name,
            "Value": self.value,
            "Type": self.kind.name(),
            "Description": self.description,
            "Overwrite": self.existing == Existing::Replaced,
        });
        if let (Existing::Refused(tags), Some(object)) = (&self.existing, body.as_object_mut()) {
            let tags = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value}));
            object.insert("Tags".to_owned(), tags.collect());
        }
        ask("PutParameter", &body)
    }

    fn answer(reply: &Reply) -> Result<i64, Unreadable> {
        let version = json::read(reply)?.get("Version").and_then(Value::as_i64);
        version.ok_or_else(|| Unreadable("the answer lacks Version".to_owned()))
    }
}

/// Removes a parameter.
#[derive(Clone, Debug)]
pub struct DeleteParameter {
    /// Which.
    pub name: String,
}

impl Call for DeleteParameter {
    type Answer = ();
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:DeleteParameter";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        ask("DeleteParameter", &json!({"Name": self.name}))
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        json::read(reply).map(|_| ())
    }
}
